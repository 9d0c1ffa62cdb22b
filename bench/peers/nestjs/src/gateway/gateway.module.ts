import { Module } from '@nestjs/common';
import { JwtModule } from '@nestjs/jwt';
import { ClientsModule } from '@nestjs/microservices';
import { grpcOptions } from '../shared/grpc.js';
import { AuthController } from './auth.controller.js';
import { ChatGateway } from './chat.gateway.js';
import { JwtGuard } from './jwt.guard.js';
import { RoomController } from './room.controller.js';
import { Services } from './services.js';
import { Tokens } from './tokens.js';

@Module({
  imports: [
    JwtModule.register({ secret: process.env.JWT_SECRET, signOptions: { algorithm: 'HS256', issuer: 'nestjs-peer' } }),
    ClientsModule.register([
      { name: 'auth', ...grpcOptions('auth') },
      { name: 'users', ...grpcOptions('users') },
      { name: 'messages', ...grpcOptions('messages') },
    ]),
  ],
  controllers: [AuthController, RoomController],
  providers: [Services, Tokens, JwtGuard, ChatGateway],
})
export class GatewayModule {}

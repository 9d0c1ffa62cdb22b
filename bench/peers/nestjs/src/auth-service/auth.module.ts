import { Module } from '@nestjs/common';
import { ClientsModule } from '@nestjs/microservices';
import { DatabaseModule } from '../shared/database.module.js';
import { grpcOptions } from '../shared/grpc.js';
import { AuthController } from './auth.controller.js';
import { AccountService } from './account.service.js';

@Module({
  imports: [DatabaseModule, ClientsModule.register([{ name: 'users', ...grpcOptions('users') }])],
  controllers: [AuthController],
  providers: [AccountService],
})
export class AuthModule {}

import { Module } from '@nestjs/common';
import { DatabaseModule } from '../shared/database.module.js';
import { UserController } from './user.controller.js';

@Module({ imports: [DatabaseModule], controllers: [UserController] })
export class UserModule {}

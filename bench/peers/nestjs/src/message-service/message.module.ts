import { Module } from '@nestjs/common';
import { DatabaseModule } from '../shared/database.module.js';
import { HistoryService } from './history.service.js';
import { MessageController } from './message.controller.js';
import { RoomService } from './room.service.js';
import { SendService } from './send.service.js';

@Module({
  imports: [DatabaseModule],
  controllers: [MessageController],
  providers: [RoomService, SendService, HistoryService],
})
export class MessageModule {}

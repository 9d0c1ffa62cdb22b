import { Controller } from '@nestjs/common';
import { GrpcMethod } from '@nestjs/microservices';
import type {
  CreateRoomRequest,
  ListMessagesRequest,
  ListMessagesResponse,
  Room,
  SendMessageRequest,
  SendMessageResponse,
} from '../shared/contract.js';
import { HistoryService } from './history.service.js';
import { RoomService } from './room.service.js';
import { SendService } from './send.service.js';

@Controller()
export class MessageController {
  constructor(
    private readonly rooms: RoomService,
    private readonly sends: SendService,
    private readonly history: HistoryService,
  ) {}

  @GrpcMethod('MessageService', 'CreateRoom')
  createRoom(request: CreateRoomRequest): Promise<Room> {
    return this.rooms.create(request);
  }

  @GrpcMethod('MessageService', 'ListRooms')
  async listRooms({ userId }: { userId: string }): Promise<{ rooms: Room[] }> {
    return { rooms: await this.rooms.list(userId) };
  }

  @GrpcMethod('MessageService', 'JoinRoom')
  joinRoom({ roomId, userId }: { roomId: string; userId: string }): Promise<Room> {
    return this.rooms.join(roomId, userId);
  }

  @GrpcMethod('MessageService', 'SendMessage')
  sendMessage(request: SendMessageRequest): Promise<SendMessageResponse> {
    return this.sends.send(request);
  }

  @GrpcMethod('MessageService', 'ListMessages')
  listMessages(request: ListMessagesRequest): Promise<ListMessagesResponse> {
    return this.history.list(request);
  }
}

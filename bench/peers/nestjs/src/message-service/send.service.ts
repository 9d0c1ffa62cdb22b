import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { SendMessageRequest, SendMessageResponse } from '../shared/contract.js';
import { Database } from '../shared/database.module.js';
import { message, type MessageRow } from './message.row.js';
import { RoomService } from './room.service.js';

@Injectable()
export class SendService {
  constructor(
    private readonly database: Database,
    private readonly rooms: RoomService,
  ) {}

  // One statement, one commit: permission, insertion, and the client's id that makes a retry harmless.
  async send(request: SendMessageRequest): Promise<SendMessageResponse> {
    const { roomId, userId, username, content, messageType, metadata, clientMessageId } = request;
    const [row] = await this.database.query<MessageRow>(
      'send',
      `INSERT INTO nestjs.messages (id, room_id, user_id, username, content, message_type, metadata, client_message_id)
       SELECT $1, room_id, user_id, $4, $5, $6, $7, $8 FROM nestjs.room_members WHERE room_id = $2 AND user_id = $3
       ON CONFLICT (room_id, user_id, client_message_id) DO NOTHING
       RETURNING *`,
      [randomUUID(), roomId, userId, username, content, messageType, metadata || null, clientMessageId || null],
    );
    if (row) return { message: message(row), replayed: false };
    await this.rooms.requireMember(roomId, userId);
    const [first] = await this.database.query<MessageRow>(
      'first send',
      'SELECT * FROM nestjs.messages WHERE room_id = $1 AND user_id = $2 AND client_message_id = $3',
      [roomId, userId, clientMessageId],
    );
    return { message: message(first), replayed: true };
  }
}

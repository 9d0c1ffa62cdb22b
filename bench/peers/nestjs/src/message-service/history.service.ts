import { Injectable } from '@nestjs/common';
import type { ListMessagesRequest, ListMessagesResponse } from '../shared/contract.js';
import { Database } from '../shared/database.module.js';
import { message, type MessageRow } from './message.row.js';
import { RoomService } from './room.service.js';

@Injectable()
export class HistoryService {
  constructor(
    private readonly database: Database,
    private readonly rooms: RoomService,
  ) {}

  async list(request: ListMessagesRequest): Promise<ListMessagesResponse> {
    await this.rooms.requireMember(request.roomId, request.userId);
    return request.page > 0 ? this.page(request) : this.window(request);
  }

  private async page({ roomId, page, limit }: ListMessagesRequest): Promise<ListMessagesResponse> {
    const [rows, [{ total }]] = await Promise.all([
      this.database.query<MessageRow>(
        'page',
        'SELECT * FROM nestjs.messages WHERE room_id = $1 ORDER BY seq DESC LIMIT $2 OFFSET $3',
        [roomId, limit, (page - 1) * limit],
      ),
      this.database.query<{ total: number }>(
        'total',
        'SELECT count(*)::int AS total FROM nestjs.messages WHERE room_id = $1',
        [roomId],
      ),
    ]);
    return { messages: rows.reverse().map(message), total, more: false };
  }

  private async window({ roomId, before, after, limit }: ListMessagesRequest): Promise<ListMessagesResponse> {
    const rows = before
      ? await this.database.query<MessageRow>(
          'before',
          'SELECT * FROM nestjs.messages WHERE room_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3',
          [roomId, before, limit + 1],
        )
      : await this.database.query<MessageRow>(
          'after',
          'SELECT * FROM nestjs.messages WHERE room_id = $1 AND seq > $2 ORDER BY seq LIMIT $3',
          [roomId, after, limit + 1],
        );
    const more = rows.length > limit;
    if (more) rows.pop();
    if (before) rows.reverse();
    return { messages: rows.map(message), total: 0, more };
  }
}

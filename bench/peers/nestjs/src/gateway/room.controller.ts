import { Body, Controller, Get, HttpCode, Param, ParseUUIDPipe, Post, Query, Res, UseGuards } from '@nestjs/common';
import { IsIn, IsObject, IsOptional, IsString, Length, MaxLength } from 'class-validator';
import type { FastifyReply } from 'fastify';
import { firstValueFrom } from 'rxjs';
import { ChatGateway } from './chat.gateway.js';
import { CurrentCaller, JwtGuard } from './jwt.guard.js';
import { messageJson } from './message.json.js';
import { Services } from './services.js';
import type { Caller } from './tokens.js';

class RoomBody {
  @IsString()
  @Length(1, 100)
  name: string;

  @IsOptional()
  @IsString()
  @MaxLength(1000)
  description?: string;

  @IsIn(['public', 'private'])
  roomType: string;
}

class MessageBody {
  @IsString()
  @Length(1, 8000)
  content: string;

  @IsOptional()
  @IsString()
  @MaxLength(64)
  messageType?: string;

  @IsOptional()
  @IsObject()
  metadata?: object;

  @IsOptional()
  @IsString()
  @Length(1, 64)
  clientMessageId?: string;
}

interface HistoryQuery {
  page?: string;
  limit?: string;
  before?: string;
  after?: string;
}

@Controller('api/rooms')
@UseGuards(JwtGuard)
export class RoomController {
  constructor(
    private readonly services: Services,
    private readonly chat: ChatGateway,
  ) {}

  @Get()
  async list(@CurrentCaller() { sub }: Caller) {
    const { rooms = [] } = await firstValueFrom(this.services.messages.listRooms({ userId: sub }));
    const message = rooms.length > 0 ? 'Rooms retrieved successfully' : 'No rooms joined yet.';
    return { success: true, message, rooms };
  }

  @Post()
  async create(@CurrentCaller() { sub }: Caller, @Body() { name, description = '', roomType }: RoomBody) {
    const room = await firstValueFrom(this.services.messages.createRoom({ name, description, roomType, userId: sub }));
    return { success: true, message: 'Room created successfully', room };
  }

  @Post(':id/join')
  @HttpCode(200)
  async join(@CurrentCaller() { sub }: Caller, @Param('id', ParseUUIDPipe) roomId: string) {
    const room = await firstValueFrom(this.services.messages.joinRoom({ roomId, userId: sub }));
    return { success: true, room };
  }

  @Get(':id/messages')
  async history(@CurrentCaller() { sub }: Caller, @Param('id', ParseUUIDPipe) roomId: string, @Query() query: HistoryQuery) {
    const limit = Math.min(Math.max(Number(query.limit) || 50, 1), 100);
    const [before, after] = [Number(query.before) || 0, Number(query.after) || 0];
    const page = query.before || query.after ? 0 : Math.max(Number(query.page) || 1, 1);
    const found = await firstValueFrom(
      this.services.messages.listMessages({ roomId, userId: sub, limit, page, before, after }),
    );
    const messages = (found.messages ?? []).map(messageJson);
    const totalPages = Math.ceil(found.total / limit);
    const pagination = page
      ? {
          currentPage: page,
          totalPages,
          totalItems: found.total,
          itemsPerPage: limit,
          hasNext: page < totalPages,
          hasPrevious: page > 1,
        }
      : {
          nextBefore: messages[0]?.seq ?? null,
          nextAfter: messages.at(-1)?.seq ?? null,
          itemsPerPage: limit,
          hasNext: query.before ? true : found.more,
          hasPrevious: query.before ? found.more : true,
        };
    return { success: true, message: 'Message history retrieved successfully', messages, pagination };
  }

  @Post(':id/messages')
  async send(
    @CurrentCaller() caller: Caller,
    @Param('id', ParseUUIDPipe) roomId: string,
    @Body() body: MessageBody,
    @Res({ passthrough: true }) reply: FastifyReply,
  ) {
    const { message, replayed } = await this.chat.post(caller, { ...body, roomId });
    reply.status(replayed ? 200 : 201);
    return { success: true, message: 'Message sent', data: message };
  }
}

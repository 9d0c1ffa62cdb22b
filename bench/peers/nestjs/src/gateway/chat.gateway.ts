import { BadRequestException } from '@nestjs/common';
import {
  ConnectedSocket,
  MessageBody,
  type OnGatewayConnection,
  type OnGatewayInit,
  SubscribeMessage,
  WebSocketGateway,
  WebSocketServer,
} from '@nestjs/websockets';
import { firstValueFrom } from 'rxjs';
import type { Server, Socket } from 'socket.io';
import { messageJson, type MessageJson } from './message.json.js';
import { refusal } from './refusal.filter.js';
import { Services } from './services.js';
import { type Caller, Tokens } from './tokens.js';

export interface Send {
  roomId: string;
  content: string;
  messageType?: string;
  metadata?: object;
  clientMessageId?: string;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

function requireRoomId(payload: { roomId?: unknown } | undefined): string {
  if (typeof payload?.roomId === 'string' && UUID.test(payload.roomId)) return payload.roomId;
  throw new BadRequestException({ code: 'VALIDATION_FAILED', message: 'roomId must be a UUID' });
}

// Checked by hand and not by decorators, which cost a good part of a send.
function requireSend(payload: Send): Send {
  requireRoomId(payload);
  const { content } = payload;
  if (typeof content === 'string' && content.length > 0 && content.length <= 8000) return payload;
  throw new BadRequestException({ code: 'VALIDATION_FAILED', message: 'content must have 1 to 8,000 characters' });
}

@WebSocketGateway({
  path: '/socket',
  transports: ['websocket'],
  perMessageDeflate: false,
  serveClient: false,
  maxHttpBufferSize: 64 * 1024,
})
export class ChatGateway implements OnGatewayInit, OnGatewayConnection {
  @WebSocketServer()
  private readonly server: Server;

  constructor(
    private readonly services: Services,
    private readonly tokens: Tokens,
  ) {}

  afterInit(server: Server): void {
    server.use(async (socket, next) => {
      try {
        socket.data.caller = await this.tokens.verify(socket.handshake.auth.token, 'ws');
        next();
      } catch {
        next(new Error('Unauthorized'));
      }
    });
  }

  handleConnection(socket: Socket): void {
    socket.emit('connected', { userId: socket.data.caller.sub, socketId: socket.id, serverTime: new Date().toISOString() });
  }

  @SubscribeMessage('join_room')
  async join(@ConnectedSocket() socket: Socket, @MessageBody() payload: { roomId: string }) {
    try {
      const roomId = requireRoomId(payload);
      const room = await firstValueFrom(
        this.services.messages.joinRoom({ roomId, userId: socket.data.caller.sub }),
      );
      await socket.join(roomId);
      return { success: true, room };
    } catch (error) {
      return refusal(error);
    }
  }

  @SubscribeMessage('leave_room')
  async leave(@ConnectedSocket() socket: Socket, @MessageBody() payload: { roomId: string }) {
    try {
      await socket.leave(requireRoomId(payload));
      return { success: true };
    } catch (error) {
      return refusal(error);
    }
  }

  @SubscribeMessage('send_message')
  async send(@ConnectedSocket() socket: Socket, @MessageBody() payload: Send) {
    try {
      const { message } = await this.post(socket.data.caller, requireSend(payload));
      return { success: true, message };
    } catch (error) {
      return refusal(error);
    }
  }

  // Stores a message and, once it is committed, delivers it. A repeated one was delivered the first time.
  async post(caller: Caller, send: Send): Promise<{ message: MessageJson; replayed: boolean }> {
    const { roomId, content, messageType = 'text', metadata, clientMessageId = '' } = send;
    const sent = await firstValueFrom(
      this.services.messages.sendMessage({
        roomId,
        userId: caller.sub,
        username: caller.username,
        content,
        messageType,
        metadata: metadata ? JSON.stringify(metadata) : '',
        clientMessageId,
      }),
    );
    const message = messageJson(sent.message);
    if (!sent.replayed) this.server.to(roomId).emit('new_message', message);
    return { message, replayed: sent.replayed };
  }
}

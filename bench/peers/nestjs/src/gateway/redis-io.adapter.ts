import type { INestApplication } from '@nestjs/common';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { createAdapter } from '@socket.io/redis-adapter';
import { createClient } from 'redis';
import type { Server, ServerOptions } from 'socket.io';

// Nest's own recipe: broadcasts go through Redis, so that they reach the sockets of every gateway.
export class RedisIoAdapter extends IoAdapter {
  private constructor(
    app: INestApplication,
    private readonly adapter: ReturnType<typeof createAdapter>,
  ) {
    super(app);
  }

  static async connect(app: INestApplication): Promise<RedisIoAdapter> {
    const publish = createClient({ url: process.env.REDIS_URL });
    const subscribe = publish.duplicate();
    for (const client of [publish, subscribe]) client.on('error', (error) => console.error('Redis:', error.message));
    await Promise.all([publish.connect(), subscribe.connect()]);
    return new RedisIoAdapter(app, createAdapter(publish, subscribe));
  }

  override createIOServer(port: number, options?: ServerOptions): Server {
    const server: Server = super.createIOServer(port, options);
    server.adapter(this.adapter);
    // The handshake's request is of no use once the socket is open.
    server.engine.on('connection', (socket: { request: unknown }) => {
      socket.request = null;
    });
    return server;
  }
}

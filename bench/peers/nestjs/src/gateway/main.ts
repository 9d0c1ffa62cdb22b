import 'reflect-metadata';
import { ValidationPipe } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { GatewayModule } from './gateway.module.js';
import { RefusalFilter, validationFailed } from './refusal.filter.js';
import { RedisIoAdapter } from './redis-io.adapter.js';

const app = await NestFactory.create<NestFastifyApplication>(
  GatewayModule,
  new FastifyAdapter({ bodyLimit: 256 * 1024 }),
  { logger: ['warn', 'error'] },
);
app.useGlobalPipes(new ValidationPipe({ exceptionFactory: validationFailed }));
app.useGlobalFilters(new RefusalFilter());
app.useWebSocketAdapter(await RedisIoAdapter.connect(app));
app.enableShutdownHooks();
await app.listen({ port: Number(process.env.PORT ?? 0), host: '127.0.0.1', backlog: 4096 });
process.send?.(await app.getUrl());

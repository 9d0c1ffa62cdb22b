// How the services and their clients speak gRPC: one list of packages, one set of loader options.

import { type INestMicroservice, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { type GrpcOptions, type MicroserviceOptions, RpcException, Transport } from '@nestjs/microservices';
import { status } from '@grpc/grpc-js';
import { join } from 'node:path';

const URLS = { auth: 'AUTH_SERVICE_URL', users: 'USER_SERVICE_URL', messages: 'MESSAGE_SERVICE_URL' } as const;

export type Package = keyof typeof URLS;

export function grpcOptions(name: Package): GrpcOptions {
  return {
    transport: Transport.GRPC,
    options: {
      package: name,
      protoPath: join(import.meta.dirname, '../../proto', `${name}.proto`),
      url: process.env[URLS[name]],
      loader: { longs: Number, defaults: true, arrays: true },
    },
  };
}

export async function serveGrpc(module: Type<unknown>, name: Package): Promise<INestMicroservice> {
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(module, {
    ...grpcOptions(name),
    logger: ['warn', 'error'],
  });
  app.enableShutdownHooks();
  await app.listen();
  process.send?.('ready');
  return app;
}

// The code of the contract is the text of the error; the gateway looks up the rest.
export function refuse(code: 'ACCOUNT_EXISTS' | 'INVALID_CREDENTIALS' | 'USER_NOT_FOUND' | 'ROOM_NOT_FOUND' | 'NOT_A_MEMBER'): RpcException {
  const codes = {
    ACCOUNT_EXISTS: status.ALREADY_EXISTS,
    INVALID_CREDENTIALS: status.UNAUTHENTICATED,
    USER_NOT_FOUND: status.NOT_FOUND,
    ROOM_NOT_FOUND: status.NOT_FOUND,
    NOT_A_MEMBER: status.PERMISSION_DENIED,
  };
  return new RpcException({ code: codes[code], message: code });
}

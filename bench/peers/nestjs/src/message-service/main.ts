import 'reflect-metadata';
import { serveGrpc } from '../shared/grpc.js';
import { MessageModule } from './message.module.js';

await serveGrpc(MessageModule, 'messages');

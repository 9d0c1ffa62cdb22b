import 'reflect-metadata';
import { serveGrpc } from '../shared/grpc.js';
import { AuthModule } from './auth.module.js';

await serveGrpc(AuthModule, 'auth');

import 'reflect-metadata';
import { serveGrpc } from '../shared/grpc.js';
import { UserModule } from './user.module.js';

await serveGrpc(UserModule, 'users');

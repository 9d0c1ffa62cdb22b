import { Inject, Injectable } from '@nestjs/common';
import type { ClientGrpc } from '@nestjs/microservices';
import type { AuthService, MessageService, UserService } from '../shared/contract.js';

// The stubs of the three services.
@Injectable()
export class Services {
  readonly auth: AuthService;
  readonly users: UserService;
  readonly messages: MessageService;

  constructor(
    @Inject('auth') auth: ClientGrpc,
    @Inject('users') users: ClientGrpc,
    @Inject('messages') messages: ClientGrpc,
  ) {
    this.auth = auth.getService<AuthService>('AuthService');
    this.users = users.getService<UserService>('UserService');
    this.messages = messages.getService<MessageService>('MessageService');
  }
}

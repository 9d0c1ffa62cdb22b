import { Controller } from '@nestjs/common';
import { GrpcMethod } from '@nestjs/microservices';
import type { Account, LoginRequest, RegisterRequest } from '../shared/contract.js';
import { AccountService } from './account.service.js';

@Controller()
export class AuthController {
  constructor(private readonly accounts: AccountService) {}

  @GrpcMethod('AuthService', 'Register')
  register(request: RegisterRequest): Promise<Account> {
    return this.accounts.register(request);
  }

  @GrpcMethod('AuthService', 'Login')
  login(request: LoginRequest): Promise<Account> {
    return this.accounts.login(request);
  }
}

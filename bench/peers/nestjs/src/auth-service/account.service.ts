import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import type { ClientGrpc } from '@nestjs/microservices';
import * as argon2 from 'argon2';
import { randomUUID } from 'node:crypto';
import { firstValueFrom } from 'rxjs';
import type { Account, LoginRequest, RegisterRequest, UserService } from '../shared/contract.js';
import { Database, isUniqueViolation } from '../shared/database.module.js';
import { refuse } from '../shared/grpc.js';

// The same cost as the product's: OWASP's first choice.
const ARGON2: argon2.HashOptions & { raw?: false } = { type: argon2.argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 };

@Injectable()
export class AccountService implements OnModuleInit {
  private users: UserService;
  private nobody: string;

  constructor(
    private readonly database: Database,
    @Inject('users') private readonly client: ClientGrpc,
  ) {}

  async onModuleInit(): Promise<void> {
    this.users = this.client.getService<UserService>('UserService');
    // An unknown user costs the same time as a wrong password.
    this.nobody = await argon2.hash(randomUUID(), ARGON2);
    await this.database.migrate(`
      CREATE TABLE IF NOT EXISTS nestjs.accounts (
        id uuid PRIMARY KEY,
        username text NOT NULL,
        email text NOT NULL,
        password_hash text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
      );
      CREATE UNIQUE INDEX IF NOT EXISTS accounts_username ON nestjs.accounts (lower(username));
      CREATE UNIQUE INDEX IF NOT EXISTS accounts_email ON nestjs.accounts (lower(email));
    `);
  }

  async register({ username, email, password, firstName, lastName }: RegisterRequest): Promise<Account> {
    const id = randomUUID();
    const hash = await argon2.hash(password, ARGON2);
    try {
      await this.database.query(
        'register',
        'INSERT INTO nestjs.accounts (id, username, email, password_hash) VALUES ($1, $2, $3, $4)',
        [id, username, email, hash],
      );
    } catch (error) {
      throw isUniqueViolation(error) ? refuse('ACCOUNT_EXISTS') : error;
    }
    await firstValueFrom(this.users.createUser({ id, username, email, firstName, lastName }));
    return { id, username };
  }

  async login({ login, password }: LoginRequest): Promise<Account> {
    const [account] = await this.database.query<Account & { password_hash: string }>(
      'login',
      `SELECT id, username, password_hash FROM nestjs.accounts WHERE lower(username) = lower($1)
       UNION ALL
       SELECT id, username, password_hash FROM nestjs.accounts WHERE lower(email) = lower($1)
       LIMIT 1`,
      [login],
    );
    const good = await argon2.verify(account?.password_hash ?? this.nobody, password);
    if (!account || !good) throw refuse('INVALID_CREDENTIALS');
    return { id: account.id, username: account.username };
  }
}

import { Controller, type OnModuleInit } from '@nestjs/common';
import { GrpcMethod } from '@nestjs/microservices';
import type { CreateUserRequest, User } from '../shared/contract.js';
import { Database } from '../shared/database.module.js';
import { refuse } from '../shared/grpc.js';

interface Row {
  id: string;
  username: string;
  email: string;
  first_name: string;
  last_name: string;
  bio: string;
  avatar_url: string;
  preferences: unknown;
  created_at: Date;
  updated_at: Date;
}

function user(row: Row): User {
  return {
    id: row.id,
    username: row.username,
    email: row.email,
    firstName: row.first_name,
    lastName: row.last_name,
    bio: row.bio,
    avatarUrl: row.avatar_url,
    preferences: JSON.stringify(row.preferences),
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}

@Controller()
export class UserController implements OnModuleInit {
  constructor(private readonly database: Database) {}

  async onModuleInit(): Promise<void> {
    await this.database.migrate(`
      CREATE TABLE IF NOT EXISTS nestjs.users (
        id uuid PRIMARY KEY,
        username text NOT NULL,
        email text NOT NULL,
        first_name text NOT NULL,
        last_name text NOT NULL,
        bio text NOT NULL DEFAULT '',
        avatar_url text NOT NULL DEFAULT '',
        preferences jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
      );
    `);
  }

  @GrpcMethod('UserService', 'CreateUser')
  async createUser({ id, username, email, firstName, lastName }: CreateUserRequest): Promise<User> {
    const [row] = await this.database.query<Row>(
      'create',
      `INSERT INTO nestjs.users (id, username, email, first_name, last_name) VALUES ($1, $2, $3, $4, $5) RETURNING *`,
      [id, username, email, firstName, lastName],
    );
    return user(row);
  }

  @GrpcMethod('UserService', 'GetUser')
  async getUser({ id }: { id: string }): Promise<User> {
    const [row] = await this.database.query<Row>('get', 'SELECT * FROM nestjs.users WHERE id = $1', [id]);
    if (!row) throw refuse('USER_NOT_FOUND');
    return user(row);
  }
}

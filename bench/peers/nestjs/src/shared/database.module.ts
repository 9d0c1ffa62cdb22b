// The pool of a service's connections. Statements are named, so that PostgreSQL parses and plans them once a connection.

import { Global, Injectable, Module, type OnApplicationShutdown } from '@nestjs/common';
import pg from 'pg';

// Commits that wait on several connections share one fsync; more than this adds processes to two cores, not commits.
const CONNECTIONS_MAX = Number(process.env.PG_POOL_MAX ?? 20);

pg.types.setTypeParser(pg.types.builtins.INT8, Number);

@Injectable()
export class Database implements OnApplicationShutdown {
  private readonly pool = new pg.Pool({
    connectionString: process.env.DATABASE_URL,
    max: CONNECTIONS_MAX,
    // An acknowledged message is on disk, whatever the server's default is.
    options: '-c synchronous_commit=on',
  });

  async query<R extends pg.QueryResultRow>(name: string, text: string, values: unknown[] = []): Promise<R[]> {
    const { rows } = await this.pool.query<R>({ name, text, values });
    return rows;
  }

  // Runs the statements that make a service's tables. The services start at once, and PostgreSQL's IF NOT EXISTS does not
  // bear two at a time, so they take turns.
  async migrate(statements: string): Promise<void> {
    const client = await this.pool.connect();
    try {
      await client.query('BEGIN');
      await client.query("SELECT pg_advisory_xact_lock(hashtext('nestjs peer'))");
      await client.query(`CREATE SCHEMA IF NOT EXISTS nestjs; ${statements}`);
      await client.query('COMMIT');
    } finally {
      client.release();
    }
  }

  async onApplicationShutdown(): Promise<void> {
    await this.pool.end();
  }
}

@Global()
@Module({ providers: [Database], exports: [Database] })
export class DatabaseModule {}

export function isUniqueViolation(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '23505';
}

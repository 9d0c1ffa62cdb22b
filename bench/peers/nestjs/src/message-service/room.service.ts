import { Injectable, type OnModuleInit } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { CreateRoomRequest, Room } from '../shared/contract.js';
import { Database } from '../shared/database.module.js';
import { refuse } from '../shared/grpc.js';

interface RoomRow {
  id: string;
  name: string;
  description: string;
  room_type: string;
  created_by: string;
  members: string[];
  member_count: number;
  last_seq: number;
  created_at: Date;
  updated_at: Date;
}

const ROOM = `
  SELECT r.*,
    ARRAY(SELECT m.user_id::text FROM nestjs.room_members m WHERE m.room_id = r.id LIMIT 100) AS members,
    (SELECT count(*)::int FROM nestjs.room_members m WHERE m.room_id = r.id) AS member_count,
    COALESCE((SELECT m.seq FROM nestjs.messages m WHERE m.room_id = r.id ORDER BY m.seq DESC LIMIT 1), 0) AS last_seq
  FROM nestjs.rooms r`;

function room(row: RoomRow): Room {
  return {
    id: row.id,
    name: row.name,
    description: row.description,
    roomType: row.room_type,
    createdBy: row.created_by,
    members: row.members,
    memberCount: row.member_count,
    lastSeq: row.last_seq,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}

@Injectable()
export class RoomService implements OnModuleInit {
  constructor(private readonly database: Database) {}

  // `seq` is a number of the table: it rises within a room, and leaves holes. A dense number would make every send of a
  // room wait for the commit of the one before it.
  async onModuleInit(): Promise<void> {
    await this.database.migrate(`
      CREATE TABLE IF NOT EXISTS nestjs.rooms (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        description text NOT NULL DEFAULT '',
        room_type text NOT NULL,
        created_by uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
      );
      CREATE TABLE IF NOT EXISTS nestjs.room_members (
        room_id uuid NOT NULL REFERENCES nestjs.rooms (id),
        user_id uuid NOT NULL,
        role text NOT NULL,
        joined_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (room_id, user_id)
      );
      CREATE INDEX IF NOT EXISTS room_members_user ON nestjs.room_members (user_id, room_id);
      CREATE TABLE IF NOT EXISTS nestjs.messages (
        seq bigint GENERATED ALWAYS AS IDENTITY,
        id uuid NOT NULL,
        room_id uuid NOT NULL,
        user_id uuid NOT NULL,
        username text NOT NULL,
        content text NOT NULL,
        message_type text NOT NULL,
        metadata jsonb,
        client_message_id text,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (room_id, seq)
      );
      CREATE UNIQUE INDEX IF NOT EXISTS messages_client ON nestjs.messages (room_id, user_id, client_message_id);
    `);
  }

  async create({ name, description, roomType, userId }: CreateRoomRequest): Promise<Room> {
    const id = randomUUID();
    await this.database.query(
      'create room',
      `WITH room AS (
         INSERT INTO nestjs.rooms (id, name, description, room_type, created_by) VALUES ($1, $2, $3, $4, $5) RETURNING id
       )
       INSERT INTO nestjs.room_members (room_id, user_id, role) SELECT id, $5, 'owner' FROM room`,
      [id, name, description, roomType, userId],
    );
    return this.get(id);
  }

  async list(userId: string): Promise<Room[]> {
    const rows = await this.database.query<RoomRow>(
      'list rooms',
      `${ROOM} JOIN nestjs.room_members mine ON mine.room_id = r.id WHERE mine.user_id = $1 ORDER BY mine.joined_at`,
      [userId],
    );
    return rows.map(room);
  }

  async join(id: string, userId: string): Promise<Room> {
    if (!(await this.isMember(id, userId))) {
      const joined = await this.database.query(
        'join room',
        `INSERT INTO nestjs.room_members (room_id, user_id, role)
         SELECT id, $2, 'member' FROM nestjs.rooms WHERE id = $1 AND room_type = 'public'
         ON CONFLICT DO NOTHING RETURNING room_id`,
        [id, userId],
      );
      if (joined.length === 0) await this.requireMember(id, userId);
    }
    return this.get(id);
  }

  async requireMember(id: string, userId: string): Promise<void> {
    const [found] = await this.database.query<{ room_type: string; member: boolean }>(
      'membership',
      `SELECT r.room_type, EXISTS (SELECT FROM nestjs.room_members m WHERE m.room_id = r.id AND m.user_id = $2) AS member
       FROM nestjs.rooms r WHERE r.id = $1`,
      [id, userId],
    );
    if (found?.member) return;
    throw refuse(found?.room_type === 'public' ? 'NOT_A_MEMBER' : 'ROOM_NOT_FOUND');
  }

  private async isMember(id: string, userId: string): Promise<boolean> {
    const found = await this.database.query(
      'is member',
      'SELECT 1 AS yes FROM nestjs.room_members WHERE room_id = $1 AND user_id = $2',
      [id, userId],
    );
    return found.length > 0;
  }

  private async get(id: string): Promise<Room> {
    const [row] = await this.database.query<RoomRow>('get room', `${ROOM} WHERE r.id = $1`, [id]);
    if (!row) throw refuse('ROOM_NOT_FOUND');
    return room(row);
  }
}

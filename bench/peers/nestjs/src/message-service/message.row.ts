import type { Message } from '../shared/contract.js';

export interface MessageRow {
  id: string;
  seq: number;
  room_id: string;
  user_id: string;
  username: string;
  content: string;
  message_type: string;
  metadata: unknown;
  client_message_id: string | null;
  created_at: Date;
}

export function message(row: MessageRow): Message {
  const createdAt = row.created_at.toISOString();
  return {
    id: row.id,
    seq: row.seq,
    roomId: row.room_id,
    userId: row.user_id,
    username: row.username,
    content: row.content,
    messageType: row.message_type,
    metadata: row.metadata === null ? '' : JSON.stringify(row.metadata),
    clientMessageId: row.client_message_id ?? '',
    createdAt,
    updatedAt: createdAt,
  };
}

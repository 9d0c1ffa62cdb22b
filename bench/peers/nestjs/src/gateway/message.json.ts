import type { Message } from '../shared/contract.js';

export type MessageJson = Omit<Message, 'metadata' | 'clientMessageId'> & { metadata: unknown; clientMessageId: string | null };

// Over gRPC metadata is JSON text, and nothing is an empty text.
export function messageJson(message: Message): MessageJson {
  return {
    ...message,
    metadata: message.metadata ? JSON.parse(message.metadata) : null,
    clientMessageId: message.clientMessageId || null,
  };
}

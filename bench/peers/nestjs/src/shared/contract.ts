// What the services offer, as proto/*.proto has it.

import type { Observable } from 'rxjs';

export interface Account {
  id: string;
  username: string;
}

export interface RegisterRequest {
  username: string;
  email: string;
  password: string;
  firstName: string;
  lastName: string;
}

export interface LoginRequest {
  login: string;
  password: string;
}

export interface User {
  id: string;
  username: string;
  email: string;
  firstName: string;
  lastName: string;
  bio: string;
  avatarUrl: string;
  preferences: string;
  createdAt: string;
  updatedAt: string;
}

export type CreateUserRequest = Pick<User, 'id' | 'username' | 'email' | 'firstName' | 'lastName'>;

export interface Room {
  id: string;
  name: string;
  description: string;
  roomType: string;
  createdBy: string;
  members: string[];
  memberCount: number;
  lastSeq: number;
  createdAt: string;
  updatedAt: string;
}

export interface CreateRoomRequest {
  name: string;
  description: string;
  roomType: string;
  userId: string;
}

export interface Message {
  id: string;
  seq: number;
  roomId: string;
  userId: string;
  username: string;
  content: string;
  messageType: string;
  metadata: string;
  clientMessageId: string;
  createdAt: string;
  updatedAt: string;
}

export type SendMessageRequest = Omit<Message, 'id' | 'seq' | 'createdAt' | 'updatedAt'>;

export interface SendMessageResponse {
  message: Message;
  replayed: boolean;
}

export interface ListMessagesRequest {
  roomId: string;
  userId: string;
  limit: number;
  page: number;
  before: number;
  after: number;
}

export interface ListMessagesResponse {
  messages: Message[];
  total: number;
  more: boolean;
}

export interface AuthService {
  register(request: RegisterRequest): Observable<Account>;
  login(request: LoginRequest): Observable<Account>;
}

export interface UserService {
  createUser(request: CreateUserRequest): Observable<User>;
  getUser(request: { id: string }): Observable<User>;
}

export interface MessageService {
  createRoom(request: CreateRoomRequest): Observable<Room>;
  listRooms(request: { userId: string }): Observable<{ rooms?: Room[] }>;
  joinRoom(request: { roomId: string; userId: string }): Observable<Room>;
  sendMessage(request: SendMessageRequest): Observable<SendMessageResponse>;
  listMessages(request: ListMessagesRequest): Observable<ListMessagesResponse>;
}

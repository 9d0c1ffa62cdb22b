import { Injectable } from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';

export const ACCESS_TTL_SECS = 15 * 60;
export const WS_TTL_SECS = 60;

export interface Caller {
  sub: string;
  username: string;
}

// Access tokens and the short-lived ones of WebSockets, told apart by their audience.
@Injectable()
export class Tokens {
  constructor(private readonly jwt: JwtService) {}

  access(sub: string, username: string): Promise<string> {
    return this.jwt.signAsync({ sub, username }, { audience: 'api', expiresIn: ACCESS_TTL_SECS });
  }

  webSocket({ sub, username }: Caller): Promise<string> {
    return this.jwt.signAsync({ sub, username }, { audience: 'ws', expiresIn: WS_TTL_SECS });
  }

  verify(token: string, audience: 'api' | 'ws'): Promise<Caller> {
    return this.jwt.verifyAsync<Caller>(token, { algorithms: ['HS256'], audience });
  }
}

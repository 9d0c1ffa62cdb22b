import { type ArgumentsHost, BadRequestException, Catch, type ExceptionFilter, HttpException, Logger, type ValidationError } from '@nestjs/common';
import { randomUUID } from 'node:crypto';

const KNOWN: Record<string, [number, string]> = {
  ACCOUNT_EXISTS: [400, 'User with this email or username already exists'],
  INVALID_CREDENTIALS: [401, 'Invalid credentials'],
  USER_NOT_FOUND: [404, 'User not found'],
  ROOM_NOT_FOUND: [404, 'Room not found'],
  NOT_A_MEMBER: [403, 'You are not a member of this room'],
};

const log = new Logger('Gateway');

export function validationFailed(errors: ValidationError[]): BadRequestException {
  return new BadRequestException({
    code: 'VALIDATION_FAILED',
    message: 'The request is not valid',
    errors: errors.map(({ property, constraints }) => ({ field: property, message: Object.values(constraints ?? {})[0] })),
  });
}

// The error object of the contract, for REST answers and for acks alike.
export function refusal(error: unknown): { success: false; statusCode: number; code: string; message: string } {
  if (error instanceof HttpException) {
    const body = error.getResponse();
    const codes: Record<number, string> = { 401: 'UNAUTHORIZED', 404: 'NOT_FOUND' };
    const code = codes[error.getStatus()] ?? 'MALFORMED_BODY';
    const rest = typeof body === 'string' ? { message: body } : body;
    return { code, message: error.message, ...rest, success: false, statusCode: error.getStatus() };
  }
  // A gRPC status: its text is the code.
  const code = (error as { details?: string }).details ?? '';
  const known = KNOWN[code];
  if (known) return { success: false, statusCode: known[0], code, message: known[1] };
  log.error(error);
  return { success: false, statusCode: 500, code: 'INTERNAL', message: 'Something went wrong' };
}

@Catch()
export class RefusalFilter implements ExceptionFilter {
  catch(error: unknown, host: ArgumentsHost): void {
    const body = refusal(error);
    host.switchToHttp().getResponse().status(body.statusCode).send({ ...body, requestId: randomUUID() });
  }
}

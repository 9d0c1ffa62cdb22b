// Starts the four processes, says when they serve, and ends them together.

import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';

const children: ChildProcess[] = [];
let stopping = false;

async function freeAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return `127.0.0.1:${port}`;
}

function stop(code: number): void {
  if (stopping) return;
  stopping = true;
  for (const child of children) child.kill('SIGTERM');
  const gone = children.map((child) => (child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined));
  void Promise.all(gone).then(() => process.exit(code));
}

// Standard output is for the line READY alone.
async function start(name: string, env: NodeJS.ProcessEnv): Promise<unknown> {
  const child = fork(join(import.meta.dirname, name, 'main.js'), { env, stdio: ['ignore', 2, 2, 'ipc'] });
  children.push(child);
  child.once('exit', (code) => {
    if (!stopping) console.error(`${name} ended with ${code}`);
    stop(1);
  });
  const [message] = await once(child, 'message');
  return message;
}

process.once('SIGTERM', () => stop(0));
process.once('SIGINT', () => stop(0));

const env: NodeJS.ProcessEnv = {
  NODE_ENV: 'production',
  JWT_SECRET: randomBytes(32).toString('hex'),
  AUTH_SERVICE_URL: await freeAddress(),
  USER_SERVICE_URL: await freeAddress(),
  MESSAGE_SERVICE_URL: await freeAddress(),
  ...process.env,
};
await Promise.all(['user-service', 'auth-service', 'message-service'].map((name) => start(name, env)));
const url = await start('gateway', env);
console.log(`READY ${url}`);

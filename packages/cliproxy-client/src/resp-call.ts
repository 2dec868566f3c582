import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ManagementClient } from './management-client.js';
import { isLocal } from './probe.js';
import type { Outcome } from './refusal.js';
import { encodeCommand, RespReader, type RespValue } from './resp.js';

const TIMEOUT_MS = 15_000;

/** One command on CLIProxyAPI's RESP port, on a connection of its own: in turn with everything else that the key opens, and behind the same gate. */
export function callResp(client: ManagementClient, ...words: readonly string[]): Promise<Outcome<RespValue>> {
  return client.inTurn(async (): Promise<Outcome<RespValue>> => {
    const target = client.target();
    if (target === undefined) return { ok: false, refusal: { kind: 'unreachable', reason: 'nobody knows where it is' } };
    const closed = client.gate.closed(target);
    if (closed !== undefined) return { ok: false, refusal: closed };
    const [auth, answer] = await exchange(target.url, [['AUTH', target.key], words]);
    if (auth instanceof Error) {
      const refusal = client.gate.refusalIn(auth.message) ?? { kind: 'off' as const };
      client.gate.note(target, refusal);
      return { ok: false, refusal };
    }
    if (auth === undefined || answer === undefined) return { ok: false, refusal: { kind: 'unreachable', reason: 'no answer in time' } };
    client.gate.note(target, undefined);
    return answer instanceof Error ? { ok: false, refusal: { kind: 'no-such-call' } } : { ok: true, value: answer };
  });
}

/** The answers to commands that are sent one after the other; shorter where the connection ended. */
function exchange(url: URL, commands: readonly (readonly string[])[]): Promise<readonly RespValue[]> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isTls = url.protocol === 'https:';
  const port = Number(url.port === '' ? (isTls ? 443 : 80) : url.port);
  const socket = isTls ? connectTls({ host, port, rejectUnauthorized: !isLocal(url) }) : connectTcp({ host, port });
  const reader = new RespReader();
  const answers: RespValue[] = [];
  return new Promise((resolve) => {
    const end = (): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.setTimeout(TIMEOUT_MS, end);
    socket.on('error', end);
    socket.on('close', end);
    socket.write(encodeCommand(...(commands[0] ?? [])));
    socket.on('data', (data: Buffer) => {
      try {
        for (const value of reader.read(data)) {
          answers.push(value);
          const next = commands[answers.length];
          if (next === undefined || value instanceof Error) end();
          else socket.write(encodeCommand(...next));
        }
      } catch {
        end();
      }
    });
  });
}

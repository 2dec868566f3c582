import type { HttpClient } from 'isomorphic-git';
import type { Oid } from './repository.js';

const NOTHING = '0'.repeat(40);
const FLUSH = '0000';

export interface RefUpdate {
  readonly http: HttpClient;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly ref: string;
  readonly from: Oid | undefined;
  readonly to: Oid;
  /** The objects that the server lacks. */
  readonly pack: Uint8Array;
}

/**
 * Moves a branch of a server from one commit to another, in one request: the server compares and sets. Returns why it was refused. The library's own push asks for the
 * refs first and walks through every tree of the repository to find out what is new, which is known here.
 * @throws HttpError of the library's kind
 */
export async function sendPack({ http, url, headers, ref, from, to, pack }: RefUpdate): Promise<string | undefined> {
  const command = packetLine(`${from ?? NOTHING} ${to} ${ref}\0report-status agent=tokenmirror\n`);
  const answer = await http.request({
    url: `${url.replace(/\/$/, '')}/git-receive-pack`,
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/x-git-receive-pack-request', accept: 'application/x-git-receive-pack-result' },
    body: iterate([Buffer.from(command + FLUSH), pack]),
  });
  const chunks: Uint8Array[] = [];
  for await (const chunk of answer.body ?? []) chunks.push(chunk);
  if (answer.statusCode !== 200)
    throw Object.assign(new Error(`HTTP ${String(answer.statusCode)}`), { code: 'HttpError', data: { statusCode: answer.statusCode } });
  const lines = packetLines(Buffer.concat(chunks).toString());
  const refusal = lines.find((line) => line.startsWith('ng ') || (line.startsWith('unpack ') && line !== 'unpack ok'));
  if (refusal !== undefined) return refusal.replace(/^(?:ng \S+|unpack) /, '');
  return lines.includes(`ok ${ref}`) ? undefined : 'no report of success';
}

function packetLine(text: string): string {
  return (Buffer.byteLength(text) + 4).toString(16).padStart(4, '0') + text;
}

function packetLines(text: string): string[] {
  const lines: string[] = [];
  for (let at = 0; at < text.length;) {
    const length = parseInt(text.slice(at, at + 4), 16);
    if (Number.isNaN(length)) break;
    if (length > 4) lines.push(text.slice(at + 4, at + length).trimEnd());
    at += Math.max(length, 4);
  }
  return lines;
}

async function* iterate(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield await Promise.resolve(part);
}

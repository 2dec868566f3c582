import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface SentMessage {
  readonly id: number;
  readonly chat: number;
  readonly text: string;
}

interface Update {
  readonly update_id: number;
  readonly message: Readonly<Record<string, unknown>>;
}

/** What the Bot API of Telegram does for one bot, as far as long polling, messages and their deletion go. */
export class TelegramServer {
  readonly token = '123456:a-bot-token-of-tests';
  readonly sent: SentMessage[] = [];
  /** Ids of messages that were deleted, of users and of the bot. */
  readonly deleted: number[] = [];
  /** Answers the next calls of getUpdates with this error. */
  trouble: { readonly status: number; readonly description: string } | undefined;
  /** Updates below this were taken by the bot. */
  confirmed = 0;
  readonly #server: Server;
  #updates: Update[] = [];
  #last = 100;
  #waiting: (() => void) | undefined;

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<TelegramServer> {
    const server = new TelegramServer();
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  /** A message of a user. Returns its id. */
  say(text: string, from: { readonly user?: number; readonly chat?: number; readonly kind?: string } = {}): number {
    const { user = 7, chat = user, kind = 'private' } = from;
    const id = (this.#last += 1);
    const entities = text.startsWith('/') ? [{ type: 'bot_command', offset: 0, length: text.split(/\s/)[0]?.length ?? 0 }] : [];
    const sender = { id: user, is_bot: false, first_name: 'User' };
    const message = { message_id: id, date: Math.floor(Date.now() / 1000), chat: { id: chat, type: kind }, from: sender, text, entities };
    this.#updates.push({ update_id: id, message });
    this.#waiting?.();
    return id;
  }

  async stop(): Promise<void> {
    this.#waiting?.();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, given, method] = /^\/bot([^/]+)\/(\w+)/.exec(request.url ?? '') ?? [];
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const parameters = (body === '' ? {} : JSON.parse(body)) as Record<string, unknown>;
    const reply = (status: number, value: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    };
    if (given !== this.token) {
      reply(401, { ok: false, error_code: 401, description: 'Unauthorized' });
      return;
    }
    if (method === 'getUpdates' && this.trouble !== undefined) {
      const { status, description } = this.trouble;
      this.trouble = undefined;
      reply(status, { ok: false, error_code: status, description });
      return;
    }
    reply(200, { ok: true, result: await this.#carryOut(method ?? '', parameters) });
  }

  async #carryOut(method: string, parameters: Readonly<Record<string, unknown>>): Promise<unknown> {
    switch (method) {
      case 'getMe':
        return { id: 1, is_bot: true, first_name: 'Bot', username: 'tokenmirror_test_bot' };
      case 'getUpdates':
        return this.#poll(Number(parameters['offset'] ?? 0), Number(parameters['timeout'] ?? 0));
      case 'sendMessage': {
        const id = (this.#last += 1);
        const chat = Number(parameters['chat_id']);
        this.sent.push({ id, chat, text: String(parameters['text']) });
        return { message_id: id, date: 0, chat: { id: chat, type: 'private' } };
      }
      case 'deleteMessage':
        this.deleted.push(Number(parameters['message_id']));
        return true;
      default:
        return true;
    }
  }

  async #poll(offset: number, seconds: number): Promise<readonly Update[]> {
    this.confirmed = Math.max(this.confirmed, offset);
    this.#updates = this.#updates.filter(({ update_id: id }) => id >= offset);
    if (this.#updates.length === 0 && seconds > 0)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(seconds, 5) * 1000);
        this.#waiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    return this.#updates;
  }
}

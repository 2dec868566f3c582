import { Bot, GrammyError, type Context } from 'grammy';
import { messageOf, TokenmirrorError, type CancelTimer, type Clock, type Log } from '@tokenmirror/core';
import { carriesKey, COMMANDS, type CommandParts, type Reply } from './commands.js';

export interface TelegramBotParts {
  readonly token: string;
  /** Of the Bot API. */
  readonly apiRoot: string;
  /** Ids; whoever is not among them gets no answer. Empty: everybody in an allowed chat. */
  readonly users: readonly string[];
  /** Ids; empty: any chat of an allowed user. */
  readonly chats: readonly string[];
  readonly commands: CommandParts;
  /** Takes secrets out of what is told. */
  readonly redact: (text: string) => string;
  readonly clock: Clock;
  readonly log: Log;
}

export interface TelegramReport {
  readonly state: 'connecting' | 'listening' | 'refused' | 'stopped';
  readonly problem: string | undefined;
}

/** Telegram takes no longer message. */
const LONGEST_MESSAGE = 4000;
/** A message with a key in clear is taken back after this, in ms. */
const SECRET_LASTS_MS = 60_000;
/** Another process polls with the same token: one of them has to wait. */
const AGAIN_MS = 30_000;
/** A poll waits for 30 s. */
const LONGEST_CALL_S = 45;

/** The companions in a chat. Long polling: nothing has to be reachable from outside. */
export class TelegramBot {
  readonly #parts: TelegramBotParts;
  readonly #bot: Bot;
  readonly #strangers = new Set<number>();
  readonly #timers = new Set<CancelTimer>();
  /** Messages with a key in clear that are still to be taken back. */
  readonly #secrets = new Set<{ readonly chat: number; readonly message: number }>();
  #report: TelegramReport = { state: 'connecting', problem: undefined };

  constructor(parts: TelegramBotParts) {
    this.#parts = parts;
    this.#bot = new Bot(parts.token, { client: { apiRoot: parts.apiRoot.replace(/\/+$/, ''), timeoutSeconds: LONGEST_CALL_S } });
    this.#bot.use(async (context, next) => {
      if (this.#isAllowed(context)) await next();
    });
    this.#bot.on('message', async (context, next) => {
      if (carriesKey(context.message.text ?? context.message.caption ?? '')) await context.deleteMessage().catch(() => undefined);
      await next();
    });
    for (const name of Object.keys(COMMANDS))
      this.#bot.command(name, async (context) => {
        await this.#answer(name, context);
      });
    this.#bot.command('start', async (context) => {
      await this.#answer('help', context);
    });
    this.#bot.catch(({ error }) => {
      this.#note('telegram-failed', error);
    });
  }

  get report(): TelegramReport {
    return this.#report;
  }

  /** Listens until it is stopped, or refused for good. Never fails. */
  async start(): Promise<void> {
    while (this.#report.state !== 'stopped') {
      try {
        // Started by itself the bot would try for ever, and tell nobody.
        await this.#bot.api.getMe();
        if (this.#isStopped()) return;
        await this.#bot.start({
          allowed_updates: ['message'],
          onStart: () => {
            if (this.#report.state !== 'stopped') this.#report = { state: 'listening', problem: undefined };
            this.#parts.log.info('telegram-listening');
          },
        });
        return;
      } catch (error) {
        if (this.#isStopped()) return;
        const isRefused = error instanceof GrammyError && (error.error_code === 401 || error.error_code === 404);
        this.#report = { state: isRefused ? 'refused' : 'connecting', problem: this.#reasonOf(error) };
        this.#note(isRefused ? 'telegram-refused' : 'telegram-unreachable', error);
        if (isRefused) return;
        await this.#pause(AGAIN_MS);
      }
    }
  }

  async stop(): Promise<void> {
    this.#report = { state: 'stopped', problem: undefined };
    for (const cancel of this.#timers) cancel();
    const secrets = [...this.#secrets].map(({ chat, message }) => this.#bot.api.deleteMessage(chat, message).catch(() => undefined));
    this.#secrets.clear();
    await Promise.all([...secrets, this.#bot.stop().catch(() => undefined)]);
  }

  #isStopped(): boolean {
    return this.#report.state === 'stopped';
  }

  /** Who is in no list gets no answer, so that nobody learns what the bot is for. */
  #isAllowed({ from, chat }: Context): boolean {
    const { users, chats, log } = this.#parts;
    if (from === undefined || chat === undefined) return false;
    const isKnown = users.includes(String(from.id)) || (users.length === 0 && chats.length > 0);
    const isHere = chats.length === 0 || chats.includes(String(chat.id));
    if (isKnown && isHere) return true;
    if (!this.#strangers.has(from.id)) log.warn('telegram-stranger', { user: from.id, chat: chat.id });
    this.#strangers.add(from.id);
    return false;
  }

  async #answer(name: string, context: Context): Promise<void> {
    const words = (context.message?.text ?? '').split(/\s+/).slice(1).filter(Boolean);
    const reply = await this.#carryOut(name, words, context);
    for (const text of pagesOf(reply.text)) {
      const sent = await context.reply(text, { link_preview_options: { is_disabled: true } });
      if (reply.isSecret === true) this.#takeBack(sent.chat.id, sent.message_id);
    }
  }

  async #carryOut(name: string, words: readonly string[], { from, chat }: Context): Promise<Reply> {
    try {
      const request = { actor: `telegram:${String(from?.id)}`, words, isPrivate: chat?.type === 'private' };
      return (await COMMANDS[name]?.answer(request, this.#parts.commands)) ?? { text: 'See /help.' };
    } catch (error) {
      if (error instanceof TokenmirrorError) return { text: this.#parts.redact(`${error.message}\n${error.remedy}`) };
      this.#note('telegram-failed', error);
      return { text: 'That went wrong; see the log of the daemon.' };
    }
  }

  #takeBack(chat: number, message: number): void {
    const secret = { chat, message };
    this.#secrets.add(secret);
    const cancel = this.#parts.clock.after(SECRET_LASTS_MS, () => {
      this.#timers.delete(cancel);
      this.#secrets.delete(secret);
      this.#bot.api.deleteMessage(chat, message).catch(() => undefined);
    });
    this.#timers.add(cancel);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#parts.clock.after(ms, () => {
        this.#timers.delete(wake);
        resolve();
      });
      const wake = (): void => {
        cancel();
        resolve();
      };
      this.#timers.add(wake);
    });
  }

  #note(event: string, error: unknown): void {
    this.#parts.log.warn(event, { reason: this.#reasonOf(error) });
  }

  /** The address of every call holds the token. */
  #reasonOf(error: unknown): string {
    const { redact, token } = this.#parts;
    return redact(messageOf(error).replaceAll(token, '…'));
  }
}

/** Cut at the ends of lines, where there are some. */
function pagesOf(text: string): string[] {
  const pages: string[] = [];
  let page = '';
  for (const line of text.split('\n').flatMap((whole) => whole.match(/.{1,4000}/gs) ?? [''])) {
    if (page !== '' && page.length + line.length + 1 > LONGEST_MESSAGE) {
      pages.push(page);
      page = '';
    }
    page = page === '' ? line : `${page}\n${line}`;
  }
  return [...pages, page === '' ? '…' : page];
}

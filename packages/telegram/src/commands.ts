import { TokenmirrorError } from '@tokenmirror/core';
import {
  describeQuota,
  FILTERS,
  generateKey,
  isKeyId,
  parseTerm,
  stateOf,
  withoutKeys,
  type ApiKey,
  type Filter,
  type KeyKeeper,
  type KeyRegistry,
} from '@tokenmirror/key-expiry';

/** Answers questions about usage; absent where nobody collects it. `since` is as people write it: 24h, 7d. */
export interface UsageAnswers {
  key(reference: string, since: string): Promise<string>;
  top(since: string): Promise<string>;
  account(email: string, since: string): Promise<string>;
}

/** What the commands work on. @throws TokenmirrorError where it is not there yet */
export interface CommandParts {
  readonly registry: () => KeyRegistry;
  readonly keeper: () => KeyKeeper;
  readonly usage: () => UsageAnswers | undefined;
  /** How the daemon is, a line each. */
  readonly status: () => readonly string[];
  readonly now: () => number;
}

export interface Request {
  /** `telegram:<user id>`. */
  readonly actor: string;
  readonly words: readonly string[];
  readonly isPrivate: boolean;
}

export interface Reply {
  readonly text: string;
  /** It holds a key in clear, and is taken back after a while. */
  readonly isSecret?: boolean;
}

interface BotCommand {
  readonly usage: string;
  readonly about: string;
  readonly answer: (request: Request, parts: CommandParts) => Promise<Reply>;
}

/** Stricter than what an owner may be: a pass phrase with an @ in it is a key. */
const ADDRESS = /^[^\s@]+@[^\s@]+\.[^\s@]+$/;
const PAGE = 20;
const DEFAULT_SINCE = '24h';

/** Everything that the bot understands. */
export const COMMANDS: Readonly<Record<string, BotCommand>> = {
  help: { usage: '', about: 'this list', answer: () => Promise.resolve({ text: helpText() }) },
  key_add: {
    usage: '[key] <email> <term> [note]',
    about: 'register a key; without one it is made (in a private chat only)',
    answer: keyAdd,
  },
  key_extend: {
    usage: '<key> <term>',
    about: 'add to its term: 24h, 7d, 2026-03-01, never',
    answer: changing(({ actor, words }, registry) => registry.setTerm(actor, word(words, 0), parseTerm(word(words, 1)), 'extend')),
  },
  key_disable: {
    usage: '<key>',
    about: 'do not let it in',
    answer: changing(({ actor, words }, registry) => registry.setStatus(actor, word(words, 0), 'disabled')),
  },
  key_enable: {
    usage: '<key>',
    about: 'let it in again',
    answer: changing(({ actor, words }, registry) => registry.setStatus(actor, word(words, 0), 'active')),
  },
  key_delete: {
    usage: '<key>',
    about: 'forget it',
    answer: changing(({ actor, words }, registry) => registry.delete(actor, word(words, 0))),
  },
  key_list: { usage: '[all|active|expired|disabled] [page]', about: 'the keys, masked', answer: keyList },
  usage_key: {
    usage: '<key> [since]',
    about: 'what a key used',
    answer: ({ words }, parts) => usage(parts, (answers) => answers.key(word(words, 0), words[1] ?? DEFAULT_SINCE)),
  },
  usage_top: {
    usage: '[since]',
    about: 'who used most',
    answer: ({ words }, parts) => usage(parts, (answers) => answers.top(words[0] ?? DEFAULT_SINCE)),
  },
  me: { usage: '<email> [since]', about: 'the keys of an owner, and their use', answer: account },
  recharge: {
    usage: '<email> [note]',
    about: 'tell the operator that somebody asks for more',
    answer: async ({ actor, words }, { keeper }) => {
      await keeper().request(actor, word(words, 0), words.slice(1).join(' '));
      return { text: 'The operator is told.' };
    },
  },
  sync_now: { usage: '', about: 'bring the keys of CLIProxyAPI up to date', answer: async (_, parts) => ({ text: await synced(parts) }) },
  status: { usage: '', about: 'how everything is', answer: (_, { status }) => Promise.resolve({ text: status().join('\n') }) },
};

/** True for a message in which something is, or may be, a key in clear: by its shape, or for being named where a key is named and no id or mask. */
export function carriesKey(text: string): boolean {
  if (withoutKeys(text) !== text) return true;
  const [command = '', first = ''] = text.split(/\s+/);
  const takesKey = /^\/(key_(extend|disable|enable|delete)|usage_key)(@|$)/.test(command);
  if (takesKey) return first !== '' && !isKeyId(first) && !first.includes('…');
  return /^\/key_add(@|$)/.test(command) && first !== '' && !ADDRESS.test(first);
}

async function keyAdd({ actor, words, isPrivate }: Request, parts: CommandParts): Promise<Reply> {
  const isMade = ADDRESS.test(word(words, 0));
  const [email, term, ...note] = isMade ? words : words.slice(1);
  if (isMade && !isPrivate)
    throw new TokenmirrorError('KEY_REFUSED', 'a new key would be shown to everybody here', 'Ask for it in a private chat.');
  const key = isMade ? generateKey(email ?? '') : word(words, 0);
  const wish = { key, owner: email ?? '', term: parseTerm(term ?? ''), note: note.join(' ') };
  const { record } = await parts.registry().add(actor, wish);
  const lines = [line(record, parts.now()), await synced(parts)];
  return isMade
    ? { text: [key, 'It is shown this once; this message goes away soon.', ...lines].join('\n'), isSecret: true }
    : { text: lines.join('\n') };
}

async function keyList({ words }: Request, { registry, now }: CommandParts): Promise<Reply> {
  const filter = FILTERS.find((each) => each === words[0]) ?? 'all';
  const page = Math.max(1, Number(words.find((each) => /^\d+$/.test(each)) ?? 1));
  const { items, total } = await registry().list({ filter: filter satisfies Filter, offset: (page - 1) * PAGE, limit: PAGE });
  if (items.length === 0) return { text: 'None.' };
  const pages = Math.ceil(total / PAGE);
  const more = page < pages ? [`Page ${String(page)} of ${String(pages)}: /key_list ${filter} ${String(page + 1)}`] : [];
  return { text: [...items.map((item) => line(item, now())), ...more].join('\n') };
}

async function account({ words }: Request, parts: CommandParts): Promise<Reply> {
  const email = word(words, 0);
  const { items } = await parts.registry().list({ owner: email });
  const lines = items.length === 0 ? [`${email} has no key.`] : items.map((item) => line(item, parts.now()));
  const used = await parts.usage()?.account(email, words[1] ?? DEFAULT_SINCE);
  return { text: [...lines, ...(used === undefined ? [] : ['', used])].join('\n') };
}

function changing(change: (request: Request, registry: KeyRegistry) => Promise<ApiKey>): BotCommand['answer'] {
  return async (request, parts) => {
    const record = await change(request, parts.registry());
    return { text: [line(record, parts.now()), await synced(parts)].join('\n') };
  };
}

async function usage({ usage: answers }: CommandParts, ask: (answers: UsageAnswers) => Promise<string>): Promise<Reply> {
  const found = answers();
  return { text: found === undefined ? 'Usage is not collected here.' : await ask(found) };
}

async function synced({ keeper }: CommandParts): Promise<string> {
  const outcomes = await Promise.resolve()
    .then(() => keeper().syncNow())
    .catch(() => undefined);
  if (outcomes === undefined) return 'Not applied yet.';
  const failures = outcomes.flatMap((outcome) =>
    outcome.status === 'failed' ? [`Not applied at ${outcome.target}: ${outcome.reason}.`] : [],
  );
  return failures.length === 0 ? 'Applied.' : failures.join('\n');
}

function line(key: ApiKey, now: number): string {
  const { id, mask, owner, expiresAt, quota, used, note } = key;
  const until = expiresAt === null ? 'never expires' : `until ${new Date(expiresAt).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
  const limit = quota === null ? [] : [`${String(used[quota.unit])} of ${describeQuota(quota)}`];
  return [id, mask, ...(owner === '' ? [] : [owner]), stateOf(key, now), until, ...limit, ...(note === '' ? [] : [note])].join(' · ');
}

function word(words: readonly string[], position: number): string {
  const found = words[position];
  if (found !== undefined) return found;
  throw new TokenmirrorError('KEY_INVALID', 'something is missing in that command', 'See /help.');
}

function helpText(): string {
  return Object.entries(COMMANDS)
    .map(([name, { usage: form, about }]) => `/${name}${form === '' ? '' : ` ${form}`} — ${about}`)
    .join('\n');
}

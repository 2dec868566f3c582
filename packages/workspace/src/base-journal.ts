import { open, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { checkFormat, CURRENT_FORMAT, messageOf, TokenmirrorError, type Base, type BaseRecords, type DocumentKey } from '@tokenmirror/core';
import { hasCode, replaceFile } from '@tokenmirror/files';

const FILE = 'base.jsonl';
/** The file is rewritten when it has this many lines more than twice the records. */
const SLACK_LINES = 1000;

type Line = { readonly set: Base } | { readonly delete: DocumentKey };

/** What a set of base records belongs to: another cluster, or another store, means no base. */
export interface BaseOwner {
  readonly cluster: string;
  readonly store: string;
  /** Of another replica's directory nothing is known. */
  readonly replica: string;
}

/**
 * Base records as an append-only file of JSON lines: a change costs one line, whatever the number of records. Changes that arrive while
 * one is being made durable go out together. A torn last line is what a crash leaves; it is dropped.
 */
export class BaseJournal implements BaseRecords {
  readonly #path: string;
  readonly #owner: BaseOwner;
  readonly #bases: Map<DocumentKey, Base>;
  #lines: number;
  #handle: FileHandle | undefined;
  /** An append failed in the middle; the file is written anew before the next one. */
  #isTorn = false;
  #pending: string[] = [];
  #flushing: Promise<void> | undefined;

  private constructor(path: string, owner: BaseOwner, bases: Map<DocumentKey, Base>, lines: number) {
    this.#path = path;
    this.#owner = owner;
    this.#bases = bases;
    this.#lines = lines;
  }

  /**
   * @throws TokenmirrorError FORMAT_NEWER
   */
  static async open(stateDir: string, owner: BaseOwner): Promise<BaseJournal> {
    const path = join(stateDir, FILE);
    const found = await load(path, owner);
    const journal = new BaseJournal(path, owner, found.bases, found.lines);
    if (found.isDirty) await journal.#rewrite();
    return journal;
  }

  /** The records as they are, not to be changed. */
  static async look(stateDir: string, owner: BaseOwner): Promise<BaseRecords> {
    const path = join(stateDir, FILE);
    const found = await load(path, owner);
    return new BaseJournal(path, owner, found.bases, found.lines);
  }

  /** The cluster that the records in a state directory belong to, if there are any. */
  static async clusterOf(stateDir: string): Promise<string | undefined> {
    const text = await readFile(join(stateDir, FILE), 'utf8').catch(() => '');
    try {
      return (JSON.parse(text.slice(0, text.indexOf('\n'))) as Partial<BaseOwner>).cluster;
    } catch {
      return undefined;
    }
  }

  /** The replica whose records for this place lie in a state directory. Its auth directory may have lost the marker. */
  static async replicaOf(stateDir: string, { cluster, store }: Omit<BaseOwner, 'replica'>): Promise<string | undefined> {
    const header = parseLine<Partial<BaseOwner>>((await readFile(join(stateDir, FILE), 'utf8').catch(() => '')).split('\n')[0]);
    return header?.cluster === cluster && header.store === store ? header.replica : undefined;
  }

  get(key: DocumentKey): Base | undefined {
    return this.#bases.get(key);
  }

  keys(): Iterable<DocumentKey> {
    return this.#bases.keys();
  }

  set(base: Base): Promise<void> {
    this.#bases.set(base.key, base);
    return this.#append({ set: base });
  }

  async delete(key: DocumentKey): Promise<void> {
    if (this.#bases.delete(key)) await this.#append({ delete: key });
  }

  async close(): Promise<void> {
    await this.#flushing;
    await this.#handle?.close();
    this.#handle = undefined;
  }

  #append(line: Line): Promise<void> {
    this.#pending.push(`${JSON.stringify(line)}\n`);
    this.#flushing ??= this.#flush().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async #flush(): Promise<void> {
    try {
      await Promise.resolve();
      while (this.#pending.length > 0) {
        if (this.#isTorn || this.#lines > 2 * this.#bases.size + SLACK_LINES) {
          this.#pending = [];
          await this.#rewrite();
          continue;
        }
        const batch = this.#pending.splice(0);
        this.#handle ??= await open(this.#path, 'a', 0o600);
        await this.#handle.appendFile(batch.join(''));
        await this.#handle.datasync();
        this.#lines += batch.length;
      }
    } catch (error) {
      this.#isTorn = true;
      throw new TokenmirrorError(
        'WORKSPACE_DENIED',
        `the base records in ${this.#path} cannot be written (${messageOf(error)})`,
        'Check the space and the rights of the state directory.',
        { cause: error },
      );
    }
  }

  async #rewrite(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
    const header = JSON.stringify({ ...CURRENT_FORMAT, ...this.#owner });
    const lines = [...this.#bases.values()].map((base) => JSON.stringify({ set: base } satisfies Line));
    await replaceFile(this.#path, `${[header, ...lines].join('\n')}\n`);
    this.#lines = lines.length;
    this.#isTorn = false;
  }
}

async function load(path: string, owner: BaseOwner): Promise<{ bases: Map<DocumentKey, Base>; lines: number; isDirty: boolean }> {
  const bases = new Map<DocumentKey, Base>();
  const nothing = { bases, lines: 0, isDirty: true };
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return nothing;
    throw new TokenmirrorError(
      'WORKSPACE_DENIED',
      `the base records in ${path} cannot be read (${messageOf(error)})`,
      'Give the user that runs Tokenmirror the right to read it.',
      { cause: error },
    );
  }
  const [header, ...lines] = text.split('\n');
  const stamp = parseLine<Partial<BaseOwner>>(header);
  if (stamp === undefined) return nothing;
  checkFormat(stamp, `the base records in ${path}`);
  if (stamp.cluster !== owner.cluster || stamp.store !== owner.store || stamp.replica !== owner.replica) return nothing;
  let isDirty = lines.pop() !== '';
  for (const text of lines) {
    const line = parseLine<Line>(text);
    if (line === undefined) {
      isDirty = true;
      continue;
    }
    if ('set' in line) bases.set(line.set.key, line.set);
    else bases.delete(line.delete);
  }
  return { bases, lines: lines.length, isDirty };
}

function parseLine<T>(line: string | undefined): T | undefined {
  try {
    return JSON.parse(line ?? '') as T;
  } catch {
    return undefined;
  }
}

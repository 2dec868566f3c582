import { createHash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TokenmirrorError } from '@tokenmirror/core';
import { lockDirectory, makeDirectory } from '@tokenmirror/files';
import git, { type PromiseFsClient } from 'isomorphic-git';
import type { GitPlace } from './git-address.js';
import { httpClient } from './http-client.js';
import type { Oid, Origin } from './repository.js';
import { sendPack } from './send-pack.js';

export interface RemoteOptions {
  readonly place: Extract<GitPlace, { kind: 'http' }>;
  readonly branch: string | undefined;
  /** Below it the clones lie. */
  readonly cloneDirectory: string;
  readonly timeoutMs: number;
  readonly fs: PromiseFsClient;
}

const REMOTE = 'origin';
const DEFAULT_BRANCH = 'main';
/** After so many pushes and fetches the clone, which keeps every object that it ever saw, is made anew. */
const RENEWED_AFTER = 1000;
/** Clones of one repository that processes of this machine may have at the same time. */
const MOST_CLONES = 64;
/** Looks at the branch after a refused push, before it is believed that nobody else was first. */
const LOOKS = 5;
const LOOK_PAUSE_MS = 200;

/** A branch behind HTTP, with a shallow clone that is used by one process at a time. */
export class RemoteOrigin implements Origin {
  readonly #options: RemoteOptions;
  readonly #http;
  readonly #headers: Record<string, string>;
  #gitdir = '';
  #branch = DEFAULT_BRANCH;
  #release: () => Promise<void> = () => Promise.resolve();
  #known: Oid | undefined;
  #lastHeard = Date.now();
  #uses = 0;
  #generation = 0;

  constructor(options: RemoteOptions) {
    this.#options = options;
    this.#http = httpClient(options.timeoutMs, (now) => {
      this.#lastHeard = now;
    });
    const { authorization } = options.place;
    this.#headers = authorization === undefined ? {} : { authorization };
  }

  get gitdir(): string {
    return this.#gitdir;
  }

  get generation(): number {
    return this.#generation;
  }

  async open(): Promise<void> {
    await this.close();
    const { place, cloneDirectory } = this.#options;
    const own = join(cloneDirectory, createHash('sha256').update(place.url).digest('hex').slice(0, 16));
    for (let n = 0; n < MOST_CLONES; n += 1) {
      const directory = join(own, String(n));
      await makeDirectory(directory);
      const lock = await lockDirectory(directory, () => {
        this.#known = undefined;
      });
      if (!lock.ok) continue;
      this.#gitdir = join(directory, 'repository.git');
      this.#release = lock.release;
      if ((await this.#packs()) > RENEWED_AFTER) await this.renew();
      else await this.#prepare();
      return;
    }
    throw new TokenmirrorError(
      'STORE_UNREACHABLE',
      `git ${place.url}: ${String(MOST_CLONES)} processes of this machine have a clone of it`,
      `See which of them are needed; their clones lie in ${own}.`,
    );
  }

  async latest(): Promise<Oid | undefined> {
    if (this.#uses > RENEWED_AFTER) await this.renew();
    const tip = await this.#remoteTip();
    if (tip === undefined || tip === this.#known) return tip;
    const { fs } = this.#options;
    const wanted = { remote: REMOTE, ref: this.#branch, singleBranch: true, tags: false, depth: 1 };
    this.#uses += 1;
    const { fetchHead } = await git.fetch({ fs, http: this.#http, gitdir: this.#gitdir, ...this.#where, ...wanted });
    this.#known = fetchHead ?? undefined;
    return this.#known;
  }

  async publish(commit: Oid, parent: Oid | undefined, written: ReadonlySet<Oid>): Promise<boolean> {
    const { fs, place } = this.#options;
    const { packfile = new Uint8Array() } = await git.packObjects({ fs, gitdir: this.#gitdir, oids: [...written], write: false });
    const { url, headers } = this.#where;
    const update = { http: this.#http, url, headers, ref: `refs/heads/${this.#branch}`, from: parent, to: commit, pack: packfile };
    const refusal = await sendPack(update);
    if (refusal !== undefined) {
      for (let look = 1; look <= LOOKS; look += 1) {
        if ((await this.#remoteTip()) !== parent) return false;
        await delay(LOOK_PAUSE_MS * look * Math.random());
      }
      throw new TokenmirrorError(
        'STORE_DENIED',
        `git ${place.url}: the server refused the push (${refusal.slice(0, 200)})`,
        'Allow pushes to the branch: no protection, no hook, and no scan for secrets that stops them.',
      );
    }
    this.#uses += 1;
    this.#known = commit;
    return true;
  }

  async renew(): Promise<void> {
    await rm(this.#gitdir, { recursive: true, force: true });
    await this.#prepare();
  }

  async now(): Promise<number> {
    await this.#remoteTip();
    return this.#lastHeard;
  }

  async close(): Promise<void> {
    const release = this.#release;
    this.#release = () => Promise.resolve();
    await release();
  }

  /** Every fetch leaves one. */
  async #packs(): Promise<number> {
    return (await readdir(join(this.#gitdir, 'objects', 'pack')).catch(() => [])).length;
  }

  async #prepare(): Promise<void> {
    const { fs, place } = this.#options;
    const gitdir = this.#gitdir;
    this.#known = undefined;
    this.#uses = 0;
    this.#generation += 1;
    await makeDirectory(gitdir);
    await git.init({ fs, gitdir, bare: true, defaultBranch: DEFAULT_BRANCH });
    await git.addRemote({ fs, gitdir, remote: REMOTE, url: place.url, force: true });
  }

  async #remoteTip(): Promise<Oid | undefined> {
    const refs = await git.listServerRefs({ http: this.#http, ...this.#where, protocolVersion: 1, symrefs: true });
    const head = refs.find(({ ref }) => ref === 'HEAD')?.target?.replace('refs/heads/', '');
    this.#branch = this.#options.branch ?? head ?? DEFAULT_BRANCH;
    return refs.find(({ ref }) => ref === `refs/heads/${this.#branch}`)?.oid;
  }

  get #where(): { readonly url: string; readonly headers: Record<string, string> } {
    return { url: this.#options.place.url, headers: this.#headers };
  }
}

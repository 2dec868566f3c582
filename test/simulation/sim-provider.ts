import { Provider, type Network, type UpstreamAnswer, type UpstreamRequest } from '@tokenmirror/testkit';
import { EPOCH } from './sim-store.js';
import type { SimHost } from './sim-host.js';
import type { SimProcess, VirtualTime } from './virtual-time.js';

/** One use of a refresh token at the provider. */
export interface Presentation {
  readonly token: string;
  readonly host: string;
  /** Which start of the proxy. */
  readonly run: number;
  readonly at: number;
  /** How many files of that host held it. */
  readonly files: number;
  /** True once the proxy had the answer. */
  isAnswered: boolean;
  /** What the answer brought. */
  issued?: string;
}

/** Within this time an answer is on the disk of a proxy that lives. */
const JUST_NOW_MS = 200;

/** The way from the proxies to the provider, with what goes wrong on it, and a record of every refresh token that was presented. */
export class SimProvider {
  readonly provider: Provider;
  readonly presented: Presentation[] = [];
  /** Tokens that a request carries right now, by host. */
  readonly inFlight = new Map<Presentation, SimProcess>();
  /** Answers that a proxy had, and did not live to write. */
  readonly unwritten = new Set<Presentation>();
  readonly trouble = { lostRequests: 0, lostReplies: 0, slowMs: 0 };
  readonly #time: VirtualTime;
  readonly #random: () => number;
  /** Told of each token that was presented though it was used. */
  readonly #reused: (presentation: Presentation) => void;

  constructor(time: VirtualTime, random: () => number, reused: (presentation: Presentation) => void) {
    this.#time = time;
    this.#random = random;
    this.#reused = reused;
    let serial = 0;
    const clock = {
      now: () => EPOCH + time.now,
      monotonic: () => time.now,
      after: (ms: number, callback: () => void) => time.after(ms, callback),
    };
    this.provider = new Provider(clock, () => `${String((serial += 1))}-${String(random()).slice(2)}`);
  }

  /** An answer that its proxy had a moment ago may not be written yet, and never will be. */
  proxyDied(host: SimHost): void {
    const texts = [...host.disk.files.values()].map(({ text }) => text);
    for (const presentation of this.presented) {
      if (presentation.host !== host.name || !presentation.isAnswered || this.#time.now - presentation.at > JUST_NOW_MS) continue;
      if (presentation.issued !== undefined && !texts.some((text) => text.includes(presentation.issued ?? '')))
        this.unwritten.add(presentation);
    }
  }

  networkOf(host: SimHost, process: SimProcess): Network {
    return { send: (request) => this.#send(host, process, request) };
  }

  #send(host: SimHost, process: SimProcess, request: UpstreamRequest): Promise<UpstreamAnswer> {
    const time = this.#time;
    const token = refreshTokenIn(request);
    return new Promise((resolve, reject) => {
      let isOver = false;
      const fail = (): void => {
        if (isOver) return;
        isOver = true;
        reject(new Error('no answer'));
      };
      time.after(request.timeoutMs, fail, process);
      const run = host.proxy?.run ?? 0;
      const files = [...host.disk.files.values()].filter(({ text }) => token !== undefined && text.includes(token)).length;
      const presentation: Presentation = { token: token ?? '', host: host.name, run, at: time.now, files, isAnswered: false };
      if (token !== undefined) this.inFlight.set(presentation, process);
      const end = (): void => {
        this.inFlight.delete(presentation);
      };
      if (this.#random() < this.trouble.lostRequests) {
        time.after(request.timeoutMs, end);
        return;
      }
      time.after(5 + this.#random() * 30 + (token === undefined ? 0 : this.trouble.slowMs * this.#random()), () => {
        const before = this.provider.counts.reuses;
        if (token !== undefined) this.presented.push(presentation);
        const answered = this.provider.answer({
          method: request.method,
          path: new URL(request.url).pathname,
          headers: request.headers,
          body: request.body,
        });
        if (this.provider.counts.reuses > before) this.#reused(presentation);
        const current = token === undefined ? undefined : this.provider.currentOf(token);
        if (current !== undefined && current !== token) presentation.issued = current;
        void answered.then((answer) => {
          if (answer === undefined || this.#random() < this.trouble.lostReplies) {
            end();
            return;
          }
          time.after(
            5 + this.#random() * 30,
            () => {
              end();
              if (isOver) return;
              isOver = true;
              presentation.isAnswered = true;
              resolve({ status: answer.status, headers: { ...answer.headers }, body: answer.body });
            },
            process,
          );
        });
      });
    });
  }
}

function refreshTokenIn({ url, body, headers }: UpstreamRequest): string | undefined {
  if (!url.includes('/oauth/token')) return undefined;
  const isForm = (headers['content-type'] ?? '').includes('urlencoded');
  return isForm
    ? (new URLSearchParams(body).get('refresh_token') ?? undefined)
    : (JSON.parse(body) as { refresh_token?: string }).refresh_token;
}

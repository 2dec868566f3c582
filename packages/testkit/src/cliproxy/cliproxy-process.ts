import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request, type IncomingHttpHeaders } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../free-port.js';
import { until } from '../until.js';
import type { Fact, Flavour } from './facts.js';

/** Names the binary of the real program, to be run in the place of the emulation. */
export const REAL_BINARY_VARIABLE = 'CLIPROXYAPI_BIN';
export const MANAGEMENT_KEY = 'management-key-for-tests';
export const API_KEY = 'sk-client-for-tests';

const EMULATION = fileURLToPath(new URL('../../dist/cliproxy/main.js', import.meta.url));

export interface CliProxyOptions {
  readonly flavour: Flavour;
  /** Root with `auths/` and `config/config.yaml`. */
  readonly workspace: string;
  readonly proxyUrl?: string;
  /** A file with the authority that the program must trust. */
  readonly authorityFile?: string;
  /** Facts that the emulation is to leave out. */
  readonly without?: readonly Fact[];
  /** Forces what is chance: ms between a change of a credential file and its use. */
  readonly reloadDelayMs?: number;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** CLIProxyAPI as a process, the emulated one or a real one, used by nothing but files, HTTP, RESP and signals. */
export class CliProxyProcess {
  readonly options: CliProxyOptions;
  port = 0;
  #child: ChildProcess | undefined;
  #output = '';

  constructor(options: CliProxyOptions) {
    this.options = options;
    mkdirSync(this.authDir, { recursive: true });
    mkdirSync(join(options.workspace, 'config'), { recursive: true });
  }

  get authDir(): string {
    return join(this.options.workspace, 'auths');
  }

  get configFile(): string {
    return join(this.options.workspace, 'config', 'config.yaml');
  }

  get output(): string {
    return this.#output;
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** A config for tests, with the sections given at its end. */
  configText(more = '', secret: string | undefined = MANAGEMENT_KEY, keys: readonly string[] = [API_KEY]): string {
    return [
      `host: "127.0.0.1"`,
      `port: ${String(this.port)}`,
      `auth-dir: ${JSON.stringify(this.authDir)}`,
      ...(this.options.proxyUrl === undefined ? [] : [`proxy-url: ${JSON.stringify(this.options.proxyUrl)}`]),
      'remote-management:',
      '  allow-remote: false',
      `  secret-key: ${JSON.stringify(secret)}`,
      '  disable-control-panel: true',
      '  disable-auto-update-panel: true',
      'usage-statistics-enabled: false',
      '# who may use the proxy',
      'api-keys:',
      ...keys.map((key) => `  - ${JSON.stringify(key)}`),
      more,
    ].join('\n');
  }

  /** Starts the program, on a config for tests where there is none, and waits until it answers. */
  async start(config?: string): Promise<void> {
    if (this.port === 0) this.port = await freePort();
    writeFileSync(this.configFile, config ?? this.configText());
    await this.restart();
  }

  /** Starts the program on the config that is there. */
  async restart(): Promise<void> {
    const { flavour, authorityFile, without = [], reloadDelayMs } = this.options;
    const real = process.env[REAL_BINARY_VARIABLE];
    const [program, args] = real === undefined ? [process.execPath, [EMULATION]] : [real, []];
    this.#output = '';
    this.#child = spawn(program, [...args, '-config', this.configFile], {
      cwd: this.options.workspace,
      env: {
        PATH: process.env['PATH'],
        HOME: this.options.workspace,
        EMULATED_FLAVOUR: flavour,
        EMULATED_WITHOUT: without.join(','),
        ...(reloadDelayMs === undefined ? {} : { EMULATED_RELOAD_DELAY_MS: String(reloadDelayMs) }),
        ...(authorityFile === undefined ? {} : { SSL_CERT_FILE: authorityFile }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.on('data', (data: Buffer) => (this.#output += data.toString()));
    await until('CLIProxyAPI answers', async () => {
      if (!this.isRunning) throw new Error(`CLIProxyAPI ended: ${this.#output}`);
      return (await this.http('GET', '/').catch(() => undefined))?.status === 200;
    });
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.isRunning) return;
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await exited;
  }

  http(method: string, path: string, headers: Readonly<Record<string, string>> = {}, body = ''): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const length = body === '' ? {} : { 'content-length': String(Buffer.byteLength(body)) };
      const sent = request({ host: '127.0.0.1', port: this.port, method, path, headers: { ...headers, ...length } }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (text += chunk));
        response.on('error', reject);
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
        });
      });
      sent.on('error', reject);
      sent.end(body);
    });
  }

  /** A request to a model, as a client makes it. */
  message(service: 'claude' | 'codex', key = API_KEY): Promise<HttpAnswer> {
    const type = { 'content-type': 'application/json' };
    const messages = [{ role: 'user', content: 'Say hello.' }];
    return service === 'claude'
      ? this.http(
          'POST',
          '/v1/messages',
          { ...type, 'x-api-key': key, 'anthropic-version': '2023-06-01' },
          JSON.stringify({ model: 'claude-sonnet-4-5-20250929', max_tokens: 16, messages }),
        )
      : this.http(
          'POST',
          '/v1/chat/completions',
          { ...type, authorization: `Bearer ${key}` },
          JSON.stringify({ model: 'gpt-5.4', messages }),
        );
  }

  manage(method: string, path: string, body?: unknown, key = MANAGEMENT_KEY): Promise<HttpAnswer> {
    const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
    return this.http(method, `/v0/management${path}`, { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, text);
  }

  /** Sends RESP commands on one connection, and returns what came back for each. */
  async resp(...commands: readonly (readonly string[])[]): Promise<string[]> {
    const socket = connect(this.port, '127.0.0.1');
    try {
      const answers: string[] = [];
      for (const words of commands) {
        socket.write(respCommand(words));
        answers.push(await once(socket));
      }
      return answers;
    } finally {
      socket.destroy();
    }
  }

  /** Listens to a channel of the RESP port. @throws Error when it is not there */
  async listen(channel: string): Promise<{ readonly messages: readonly string[]; readonly close: () => void }> {
    const socket = connect(this.port, '127.0.0.1');
    socket.write(respCommand(['AUTH', MANAGEMENT_KEY]));
    await once(socket);
    socket.write(respCommand(['SUBSCRIBE', channel]));
    const answer = await once(socket);
    if (!answer.includes('subscribe')) throw new Error(`no channel ${channel}: ${answer}`);
    const messages: string[] = [];
    socket.on('data', (data) => {
      const found = /\{.*\}/.exec(data.toString());
      if (found !== null) messages.push(found[0]);
    });
    return { messages, close: () => socket.destroy() };
  }

  credential(name: string): Record<string, unknown> | undefined {
    try {
      return JSON.parse(readFileSync(join(this.authDir, name), 'utf8')) as Record<string, unknown>;
    } catch {
      return undefined;
    }
  }
}

function respCommand(words: readonly string[]): string {
  return `*${String(words.length)}\r\n${words.map((word) => `$${String(Buffer.byteLength(word))}\r\n${word}\r\n`).join('')}`;
}

function once(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    socket.once('data', (data) => {
      resolve(data.toString());
    });
    socket.once('error', reject);
    socket.once('close', () => {
      resolve('');
    });
  });
}

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from './until.js';

/** The command as the build left it. */
export const COMMAND = join(
  dirname(createRequire(join(fileURLToPath(import.meta.url))).resolve('tokenmirror/package.json')),
  'dist',
  'main.js',
);

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [detail: string]: unknown;
}

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A minimal environment: nothing of the machine leaks into the process. */
function environment(more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], HOME: '/nonexistent', NO_COLOR: '1', TOKENMIRROR_HTTP_LISTEN: 'off', ...more };
}

/** Runs `tokenmirror` to its end. */
export async function runCommand(args: readonly string[], env: Readonly<Record<string, string>> = {}, cwd = '/'): Promise<CommandResult> {
  const child = spawn(process.execPath, [COMMAND, ...args], { env: environment(env), cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (data: Buffer) => (output.stdout += data.toString()));
  child.stderr.on('data', (data: Buffer) => (output.stderr += data.toString()));
  const exitCode = await new Promise<number>((resolve) =>
    child.once('close', (code) => {
      resolve(code ?? -1);
    }),
  );
  return { exitCode, ...output };
}

/** A real `tokenmirror run` on a workspace of its own. */
export class DaemonProcess {
  readonly workspace: string;
  readonly #args: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  /** A command that runs the daemon, in the same process; for example with fewer rights. */
  launcher: readonly string[] = [];
  #output = '';
  #earlier: LogLine[] = [];

  constructor(workspace: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.workspace = workspace;
    this.#args = args;
    this.#env = env;
    mkdirSync(this.authDir, { recursive: true });
    mkdirSync(join(workspace, 'config'), { recursive: true });
  }

  get authDir(): string {
    return join(this.workspace, 'auths');
  }

  get configFile(): string {
    return join(this.workspace, 'config', 'config.yaml');
  }

  get pid(): number {
    return this.#child?.pid ?? -1;
  }

  /** Everything that was logged since the last start. */
  get log(): readonly LogLine[] {
    return this.#output
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as LogLine);
  }

  /** What was logged since the first start. */
  get wholeLog(): readonly LogLine[] {
    return [...this.#earlier, ...this.log];
  }

  get output(): string {
    return this.#output;
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Starts the process and waits until it is in sync. */
  async start(): Promise<void> {
    this.launch();
    await until(`the daemon on ${this.workspace} is ready`, () => {
      if (!this.isRunning) throw new Error(`the daemon ended: ${this.#output}`);
      return this.logged('ready');
    });
  }

  launch(): void {
    this.#earlier.push(...this.log);
    this.#output = '';
    const args = [COMMAND, 'run', '--workspace', this.workspace, '--log-format', 'json', ...this.#args];
    const [program = process.execPath, ...words] = [...this.launcher, process.execPath, ...args];
    this.#child = spawn(program, words, { env: environment(this.#env), cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr?.on('data', (data: Buffer) => (this.#output += data.toString()));
  }

  logged(event: string): boolean {
    return this.log.some(({ msg }) => msg === event);
  }

  /** SIGTERM, and what it exited with. */
  async stop(): Promise<number> {
    return this.end('SIGTERM');
  }

  /** SIGSTOP: it keeps its ports and connections, and does nothing. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** `kill -9`. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  async end(signal: NodeJS.Signals): Promise<number> {
    const child = this.#child;
    if (child === undefined || !this.isRunning) return child?.exitCode ?? -1;
    const exited = new Promise<number>((resolve) =>
      child.once('exit', (code) => {
        resolve(code ?? -1);
      }),
    );
    child.kill(signal);
    return exited;
  }

  async ended(): Promise<number> {
    await until('the daemon ended', () => !this.isRunning);
    return this.#child?.exitCode ?? -1;
  }
}

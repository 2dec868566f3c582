/** The auth directory and the config file, as CLIProxyAPI uses them. Paths are below the auth directory, `/`-separated. */
export interface Disk {
  /** Every `*.json` below the auth directory. */
  list(): readonly string[];
  read(path: string): string | undefined;
  /** Truncates and writes, on the same inode; no fsync, no rename. */
  writeInPlace(path: string, text: string): void;
  remove(path: string): void;
  readConfig(): string | undefined;
  writeConfigInPlace(text: string): void;
  /** Calls back with the path of a file that changed in any way: direct children only, unless `deep`. */
  watchAuths(changed: (path: string) => void, deep: boolean): () => void;
  /** Calls back for writes to the inode that is at the path now; with `byPath`, to whatever is there later. */
  watchConfig(changed: () => void, byPath: boolean): () => void;
}

export interface UpstreamRequest {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly timeoutMs: number;
}

export interface UpstreamAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The way to the provider, through the proxy that the config names. */
export interface Network {
  /** Rejects when no answer came. */
  send(request: UpstreamRequest, proxyUrl: string | undefined): Promise<UpstreamAnswer>;
}

/** What is chance in the real program. */
export interface Chance {
  /** ms between a change of a credential file and its use: 3 to 8. */
  reloadDelayMs(): number;
  /** A random name, for what CLIProxyAPI invents. */
  id(): string;
}

import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

let issued = 0;

/** The text of a credential with a grant of its own. */
export function credential(more: Record<string, unknown> = {}): string {
  issued += 1;
  const now = Date.now();
  return JSON.stringify({
    access_token: `sk-ant-oat01-test-${String(now)}-${String(issued)}`,
    disabled: false,
    email: 'test@example.com',
    expired: new Date(now + 8 * 3_600_000 + issued * 1000).toISOString(),
    last_refresh: new Date(now + issued * 1000).toISOString(),
    refresh_token: `sk-ant-ort01-test-${String(now)}-${String(issued)}`,
    type: 'claude',
    ...more,
  });
}

/** As CLIProxyAPI writes: truncate, then write, on the same inode. */
export function writeInPlace(path: string, text: string): void {
  writeFileSync(path, text);
}

/** As an editor or a script writes: a temporary file, renamed over the old one. */
export function renameOver(path: string, text: string): void {
  const temporary = `${path}.swp`;
  writeFileSync(temporary, text);
  renameSync(temporary, path);
}

/** Every credential below a directory as parsed JSON, by path; hidden and other files left out. */
export function readCredentials(directory: string): Record<string, unknown> {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.json') && !path.split('/').some((part) => part.startsWith('.')),
  );
  return Object.fromEntries(files.sort().map((path) => [path, parsed(join(directory, path))]));
}

function parsed(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as unknown;
  } catch {
    return 'not valid yet';
  }
}

import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { isCredentialKey, refreshTokenOf, shownName, type JsonObject } from '@tokenmirror/core';
import type { DirectoryWorkspace, Locations } from '@tokenmirror/workspace';
import { join } from 'node:path';
import { attention, failed, ok, skipped, type Finding } from './finding.js';

/** Where CLIProxyAPI keeps the copies of its own remote stores. */
const OWN_STORES = ['pgstore', 'objectstore', 'gitstore'];
const ENOUGH_WATCHES = 8192;

/** The directories and files: are they there, may they be written, and may others read them. */
export function checkRights({ authDir, configFile, stateDir }: Locations): Finding[] {
  const findings: Finding[] = [];
  for (const [check, path] of [
    ['auth directory', authDir],
    ['state directory', existsSync(stateDir) ? stateDir : dirname(stateDir)],
    ...(configFile === undefined || !existsSync(configFile) ? [] : [['config', configFile] as const]),
  ] as const) {
    if (!existsSync(path)) findings.push(failed(check, `${path} does not exist`, 'Make it, or name the right one.'));
    else if (!mayWrite(path))
      findings.push(failed(check, `${path} cannot be read and written by this user`, 'Run as its owner, or change its rights.'));
    else if (isOpenToOthers(path))
      findings.push(
        attention(check, `${path} can be read by other users of this machine`, `chmod ${check === 'config' ? '600' : '700'} ${path}`),
      );
    else findings.push(ok(check, path));
  }
  const ownStore = OWN_STORES.find((name) => basename(dirname(authDir)) === name);
  if (ownStore !== undefined)
    findings.push(
      failed(
        'own store',
        `${authDir} is the local copy of CLIProxyAPI's own remote store (${ownStore})`,
        'CLIProxyAPI overwrites it at every start. Run CLIProxyAPI without PGSTORE_*, OBJECTSTORE_* and GITSTORE_*, on plain files.',
      ),
    );
  return findings;
}

/** The credentials: their modes, and whether an account stands under two names. */
export async function checkCredentials(workspace: DirectoryWorkspace, { authDir }: Locations): Promise<Finding[]> {
  if (workspace.presence() === 'missing') return [skipped('credentials', 'there is no auth directory')];
  const { files, refused } = await workspace.scan();
  const accounts = new Map<string, string[]>();
  const tokens = new Map<string, string[]>();
  const open: string[] = [];
  for (const { key } of files) {
    if (!isCredentialKey(key)) continue;
    const name = key.slice('auths/'.length);
    if (isOpenToOthers(join(authDir, name))) open.push(name);
    const reading = await workspace.read(key);
    if (reading.state !== 'document' || reading.document.kind !== 'credential') continue;
    const { fields } = reading.document;
    note(accounts, accountOf(fields), name);
    note(tokens, refreshTokenOf(fields), name);
  }
  const findings: Finding[] = [];
  const shown = (names: readonly string[]): string => names.map(shownName).join(', ');
  if (open.length > 0)
    findings.push(
      attention(
        'credentials',
        `other users of this machine can read ${shown(open.slice(0, 3))}${open.length > 3 ? ', …' : ''}`,
        `chmod 600 ${authDir}/*.json`,
      ),
    );
  for (const names of tokens.values())
    if (names.length > 1)
      findings.push(attention('credentials', `${shown(names)} hold the same refresh token`, 'Delete all but one of them in CLIProxyAPI.'));
  for (const names of accounts.values())
    if (names.length > 1 && ![...tokens.values()].some((same) => names.every((name) => same.includes(name))))
      findings.push(attention('credentials', `${shown(names)} are of the same account`, 'Delete all but the newest one in CLIProxyAPI.'));
  for (const { name, reason } of refused)
    findings.push(attention('credentials', `${shownName(name)} is not replicated: ${reason}`, 'Mend or remove it.'));
  return findings.length > 0
    ? findings
    : [
        ok(
          'credentials',
          `${String(files.filter(({ key }) => isCredentialKey(key)).length)} of them, private to this user, no account twice`,
        ),
      ];
}

/** How many places Linux lets a user watch. We take one for each directory; CLIProxyAPI and others want some, too. */
export function checkWatches(): Finding {
  const limit = numberIn('/proc/sys/fs/inotify/max_user_watches');
  if (limit === undefined) return skipped('file watches', 'this system has no limit that can be read');
  if (limit >= ENOUGH_WATCHES) return ok('file watches', `${String(limit)} are allowed`);
  return attention(
    'file watches',
    `only ${String(limit)} are allowed; without them files are looked at every second`,
    `sysctl fs.inotify.max_user_watches=${String(ENOUGH_WATCHES)}`,
  );
}

function accountOf(fields: JsonObject): string | undefined {
  const { type, email, account_id: account, project_id: project } = fields;
  return typeof email === 'string' ? JSON.stringify([type, email, account, project]) : undefined;
}

function note(found: Map<string, string[]>, id: string | undefined, name: string): void {
  if (id !== undefined) found.set(id, [...(found.get(id) ?? []), name]);
}

function mayWrite(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function isOpenToOthers(path: string): boolean {
  return (statSync(path).mode & 0o077) !== 0;
}

function numberIn(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

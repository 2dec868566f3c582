import { readdirSync, readFileSync } from 'node:fs';
import { explain, type ManagementClient } from '@tokenmirror/cliproxy-client';
import type { NeighbourReport } from '../neighbour/neighbour.js';
import { attention, failed, ok, skipped, type Finding } from './finding.js';

/** CLIProxyAPI as a client sees it. */
export function checkNeighbour(report: NeighbourReport | undefined): Finding[] {
  if (report === undefined) return [skipped('CLIProxyAPI', 'nobody knows where it listens: there is no config, and no cliproxy-url')];
  if (!report.answers)
    return [
      attention('CLIProxyAPI', `it does not answer at ${report.url}`, 'Start it, or correct host and port in its config, or cliproxy-url.'),
    ];
  const findings = [ok('CLIProxyAPI', `it answers at ${report.url}${report.flavour === undefined ? '' : ` (${report.flavour})`}`)];
  if (report.isOpen)
    findings.push(failed('CLIProxyAPI keys', 'it serves everyone, with any key or none', 'Put api-keys into config.yaml.'));
  if (report.hasLostConfig)
    findings.push(failed('CLIProxyAPI config', 'it does not go by config.yaml any more: its watch of the file was lost', 'Restart it.'));
  return findings;
}

/** The management key, with one call. */
export async function checkManagement(client: ManagementClient): Promise<Finding> {
  const check = 'management key';
  if (client.target() === undefined) return skipped(check, 'none is given: access tokens that die are not noticed');
  const outcome = await client.call({ method: 'GET', path: '/usage-statistics-enabled' });
  if (outcome.ok) return ok(check, `it is right${client.version === undefined ? '' : `; CLIProxyAPI is ${client.version}`}`);
  const { reason, remedy } = explain(outcome.refusal);
  return outcome.refusal.kind === 'unreachable' ? skipped(check, reason) : failed(check, reason, remedy);
}

const PROGRAM = /(^|\/)(cli-proxy-api|cliproxyapi)(-plus)?$/i;
const OWN_STORE = /^(PGSTORE_DSN|OBJECTSTORE_ENDPOINT|GITSTORE_GIT_URL)=./i;

/** Whether a CLIProxyAPI of this user runs on a remote store of its own, which would fight with ours. Linux tells. */
export function checkOwnStores(): Finding {
  const check = 'own store';
  let pids: string[];
  try {
    pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return skipped(check, 'this system does not tell what its programs were started with');
  }
  for (const pid of pids) {
    const [program = ''] = wordsOf(`/proc/${pid}/cmdline`);
    if (!PROGRAM.test(program)) continue;
    const variable = wordsOf(`/proc/${pid}/environ`).find((word) => OWN_STORE.test(word));
    if (variable !== undefined)
      return failed(
        check,
        `CLIProxyAPI (process ${pid}) runs on a remote store of its own (${variable.slice(0, variable.indexOf('='))})`,
        'Start it without that variable, on plain files: it writes without looking, and would undo what others wrote.',
      );
  }
  return ok(check, 'no CLIProxyAPI of this user runs on a remote store of its own');
}

function wordsOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\0');
  } catch {
    return [];
  }
}

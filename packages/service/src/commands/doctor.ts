import { ManagementClient } from '@tokenmirror/cliproxy-client';
import { messageOf, silentLog, TokenmirrorError } from '@tokenmirror/core';
import { lockOwner } from '@tokenmirror/files';
import { readReport } from '../daemon/status-file.js';
import { attention, failed, ok, type Finding } from '../doctor/finding.js';
import { checkManagement, checkNeighbour, checkOwnStores } from '../doctor/neighbour-checks.js';
import { checkStore } from '../doctor/store-checks.js';
import { checkCredentials, checkRights, checkWatches } from '../doctor/workspace-checks.js';
import { managementBeside } from '../neighbour/neighbour-config.js';
import { Neighbour } from '../neighbour/neighbour.js';
import { RefusedKeysFile } from '../neighbour/refused-keys-file.js';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica-factory.js';
import { systemClock } from '../system-clock.js';

export type { Finding } from '../doctor/finding.js';

/** Looks at everything that Tokenmirror depends on. Changes nothing but a small record in the stores, which it takes away again. */
export async function doctor(replicas: ReplicaFactory, settings: Settings, version: string): Promise<Finding[]> {
  const locations = replicas.locations();
  const workspace = replicas.workspace(locations);
  const findings = [
    ok('program', `Tokenmirror ${version} on Node ${process.versions.node}, ${process.platform}`),
    ...checkRights(locations),
  ];
  findings.push(...(await attempt('credentials', () => checkCredentials(workspace, locations))));
  findings.push(checkWatches());
  findings.push(
    ...(await attempt('authority', async () => {
      const store = await replicas.authority(locations);
      const found = await checkStore(store, 'authority');
      for (const { name, store: mirror } of await replicas.mirrors(store, locations))
        found.push(...(await checkStore(mirror, `mirror ${name}`)));
      return found;
    })),
  );

  const url = settings['cliproxy-url'];
  const neighbour = new Neighbour({ locations, url, clock: systemClock, log: silentLog, changed: () => undefined });
  await neighbour.look();
  findings.push(...checkNeighbour(neighbour.report), checkOwnStores());
  const target = () => managementBeside(locations.configFile, url, settings['management-key']);
  const client = new ManagementClient({ target, clock: systemClock, refusedKeys: new RefusedKeysFile(locations.stateDir) });
  findings.push(await checkManagement(client));
  client.close();

  const owner = await lockOwner(locations.stateDir);
  const report = owner === undefined ? undefined : await readReport(locations.stateDir);
  if (owner === undefined)
    findings.push(attention('daemon', 'none runs on this workspace', 'Start it with `tokenmirror run`, or `tokenmirror service install`.'));
  else if (report !== undefined && report.version !== version)
    findings.push(attention('daemon', `it is ${report.version}, and this command ${version}`, 'Restart it.'));
  else findings.push(ok('daemon', `it runs (process ${String(owner.pid)})`));
  return findings;
}

/** A check that fails itself is a finding, and the others go on. */
async function attempt(check: string, work: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await work();
  } catch (error) {
    return [failed(check, messageOf(error), error instanceof TokenmirrorError ? error.remedy : 'Please report this.')];
  }
}

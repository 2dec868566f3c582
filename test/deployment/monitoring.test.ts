import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { ALARM_KINDS } from '@tokenmirror/service';
import { cleanTemporaryDirectories, credential, DaemonProcess, freePort, temporaryDirectory, until } from '@tokenmirror/testkit';
import { pathToFileURL } from 'node:url';
import { writeFileSync } from 'node:fs';

const PLACE = join(import.meta.dirname, '../../deploy/monitoring');
const DASHBOARD = JSON.parse(readFileSync(join(PLACE, 'dashboard.json'), 'utf8')) as {
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
};
const ALERTS = parse(readFileSync(join(PLACE, 'alerts.yaml'), 'utf8')) as {
  readonly groups: readonly {
    readonly rules: readonly { readonly alert: string; readonly expr: string; readonly labels: { readonly severity: string } }[];
  }[];
};
const RULES = ALERTS.groups.flatMap(({ rules }) => rules);

/** Labels that Prometheus adds. */
const OF_PROMETHEUS = ['instance', 'job', 'le'];

/** What a daemon with a mirror serves: the labels of each metric, by its name. */
let served: Map<string, Set<string>>;
let daemon: DaemonProcess;

beforeAll(async () => {
  const port = await freePort();
  daemon = new DaemonProcess(
    temporaryDirectory('monitoring'),
    ['--store', pathToFileURL(join(temporaryDirectory('monitoring-store'), 'store')).href],
    {
      TOKENMIRROR_HTTP_LISTEN: `127.0.0.1:${String(port)}`,
      TOKENMIRROR_MIRRORS: pathToFileURL(join(temporaryDirectory('monitoring-mirror'), 'mirror')).href,
    },
  );
  writeFileSync(join(daemon.authDir, 'claude-me@example.com.json'), credential());
  writeFileSync(daemon.configFile, `port: ${String(await freePort())}\napi-keys:\n  - sk-for-tests\n`);
  await daemon.start();
  let text = '';
  await until('everything is served', async () => {
    text = await (await fetch(`http://127.0.0.1:${String(port)}/metrics`)).text();
    return text.includes('tokenmirror_cliproxy_up') && text.includes('tokenmirror_credential_expiry_timestamp_seconds{');
  });
  served = new Map();
  for (const [, name = '', labels = ''] of text.matchAll(/^(tokenmirror_\w+)(?:\{(.*)\})? /gm)) {
    const known = served.get(name) ?? new Set();
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) known.add(label);
    served.set(name, known);
  }
  for (const [, name = ''] of text.matchAll(/^# TYPE (tokenmirror_\w+) counter$/gm))
    if (!served.has(name)) served.set(name, new Set(['operation', 'code']));
});

afterAll(async () => {
  await daemon.kill();
  cleanTemporaryDirectories();
});

const expressions = (): [string, string][] => [
  ...DASHBOARD.panels.flatMap(({ title, targets }) => targets.map(({ expr }): [string, string] => [title, expr])),
  ...RULES.map(({ alert, expr }): [string, string] => [alert, expr]),
];

test.each(expressions())('%s refers to metrics and labels that exist', (_, expression) => {
  const names = [...expression.matchAll(/tokenmirror_\w+/g)].map(([name]) => name);
  expect(names.length).toBeGreaterThan(0);
  for (const name of names) expect([...served.keys()]).toContain(name);
  const labels = new Set(names.flatMap((name) => [...(served.get(name) ?? [])]));
  for (const [, list = ''] of expression.matchAll(/by \(([^)]*)\)/g))
    for (const label of list.split(',')) expect([...labels, ...OF_PROMETHEUS]).toContain(label.trim());
});

describe('the alert rules', () => {
  test('know every alarm, by its severity', () => {
    const kinds = (alert: string): string[] =>
      /kind=~"([^"]*)"/.exec(RULES.find((rule) => rule.alert === alert)?.expr ?? '')?.[1]?.split('|') ?? [];
    expect([...kinds('TokenmirrorCritical'), ...kinds('TokenmirrorWarning')].sort()).toEqual([...ALARM_KINDS].sort());
  });
});

import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Deployment } from 'kubernetes-models/apps/v1/Deployment';
import { Job } from 'kubernetes-models/batch/v1/Job';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import { Service } from 'kubernetes-models/v1/Service';
import { parse } from 'yaml';
import { environmentOf, OPTION_NAMES, optionSpec } from '@tokenmirror/service';
import {
  cleanTemporaryDirectories,
  CliProxyProcess,
  COMMAND,
  credential,
  freePort,
  runCommand,
  temporaryDirectory,
  until,
} from '@tokenmirror/testkit';

const PLACE = join(import.meta.dirname, '../../deploy/kubernetes');
const KINDS = { Deployment, Job, PodDisruptionBudget, Service } as const;

interface Container {
  readonly name: string;
  readonly image: string;
  readonly restartPolicy?: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
  readonly securityContext: object;
  readonly resources: { readonly requests: object; readonly limits: object };
  readonly startupProbe?: {
    readonly httpGet: { readonly path: string; readonly port: string };
    readonly periodSeconds: number;
    readonly failureThreshold: number;
  };
}

interface PodSpec {
  readonly automountServiceAccountToken: boolean;
  readonly securityContext: object;
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly { readonly name: string }[];
  readonly terminationGracePeriodSeconds?: number;
}

interface Manifest {
  readonly kind: string;
  readonly spec: {
    readonly template: { readonly metadata: { readonly labels: object }; readonly spec: PodSpec };
    readonly selector: { readonly matchLabels: object };
  };
}

interface Kustomization {
  readonly resources: readonly string[];
  readonly configMapGenerator?: readonly { readonly name: string; readonly literals: readonly string[] }[];
}

const read = (path: string): unknown => parse(readFileSync(join(PLACE, path), 'utf8'));
const manifests = ['base/deployment.yaml', 'base/service.yaml', 'base/pod-disruption-budget.yaml', 'migrate/job.yaml'];
const podOf = (path: string): PodSpec => (read(path) as Manifest).spec.template.spec;
const variables = new Set(OPTION_NAMES.flatMap((name) => environmentOf(name)));

test.each(manifests)('%s is valid by the published schema', (path) => {
  const manifest = read(path) as Manifest;
  const Kind = KINDS[manifest.kind as keyof typeof KINDS];
  expect(() => {
    new Kind(manifest as never).validate();
  }).not.toThrow();
  const broken = { ...manifest, spec: 'none' } as never;
  expect(() => {
    new Kind(broken).validate();
  }).toThrow();
});

test('every manifest is listed, and every overlay leads to the base', () => {
  for (const directory of ['base', 'migrate']) {
    const { resources } = read(`${directory}/kustomization.yaml`) as Kustomization;
    const files = readdirSync(join(PLACE, directory)).filter((file) => file !== 'kustomization.yaml');
    expect([...resources].sort()).toEqual(files.sort());
  }
  for (const overlay of readdirSync(join(PLACE, 'overlays')))
    expect((read(`overlays/${overlay}/kustomization.yaml`) as Kustomization).resources).toEqual(['../../base']);
});

describe('the sidecar', () => {
  const pod = podOf('base/deployment.yaml');
  const [sidecar] = pod.initContainers ?? [];

  test('is native: it fills the workspace before CLIProxyAPI starts, and ends after it', () => {
    expect(sidecar).toMatchObject({
      name: 'tokenmirror',
      restartPolicy: 'Always',
      args: ['run'],
      startupProbe: { httpGet: { path: '/readyz' } },
    });
    expect(sidecar?.env).toContainEqual({ name: 'TOKENMIRROR_OUTLIVES_CLIPROXY', value: 'true' });
    expect(sidecar?.env).toContainEqual({ name: 'TOKENMIRROR_CUSTODY', value: 'on' });
  });

  test('is given longer to become ready than it waits for the authority', () => {
    const { periodSeconds = 0, failureThreshold = 0 } = sidecar?.startupProbe ?? {};
    expect(sidecar?.env).toContainEqual({ name: 'TOKENMIRROR_START_DEGRADED_AFTER', value: '1m' });
    expect(periodSeconds * failureThreshold).toBeGreaterThan(60 + 30);
  });

  test('is probed where it listens, which needs a token', () => {
    const address = sidecar?.env?.find(({ name }) => name === 'TOKENMIRROR_HTTP_LISTEN')?.value;
    expect(sidecar?.ports).toEqual([{ name: 'operations', containerPort: Number(address?.slice(1)) }]);
    for (const overlay of readdirSync(join(PLACE, 'overlays')))
      expect(readFileSync(join(PLACE, 'overlays', overlay, 'kustomization.yaml'), 'utf8')).toContain('TOKENMIRROR_HTTP_TOKEN=');
  });

  test('sees the same workspace as CLIProxyAPI', () => {
    expect(sidecar?.volumeMounts).toEqual(pod.containers[0]?.volumeMounts);
  });
});

describe('the sidecar, started as the manifest says', () => {
  const [sidecar] = podOf('base/deployment.yaml').initContainers ?? [];
  const NAME = 'claude-me@example.com.json';
  let workspace: string;
  let store: string;
  let cpa: CliProxyProcess;
  let child: ChildProcess | undefined;

  beforeEach(async () => {
    workspace = temporaryDirectory('kubernetes');
    store = pathToFileURL(join(temporaryDirectory('kubernetes-store'), 'store')).href;
    cpa = new CliProxyProcess({ flavour: '7.2', workspace });
    await cpa.start();
  });

  afterEach(async () => {
    child?.kill('SIGKILL');
    await cpa.end('SIGKILL');
    cleanTemporaryDirectories();
  });

  /** Its arguments and variables, with the places of this machine, and what the overlay and the secret add. */
  async function started(): Promise<{ ended: Promise<number | null>; port: number }> {
    const port = await freePort();
    const fromManifest = Object.fromEntries(
      (sidecar?.env ?? []).map(({ name, value = '' }) => [name, value.replace('/workspace', workspace)]),
    );
    const env = {
      ...fromManifest,
      PATH: process.env['PATH'],
      TOKENMIRROR_STORE: store,
      TOKENMIRROR_FILESYSTEM_SHARED: 'true',
      TOKENMIRROR_HTTP_TOKEN: 'token-for-tests',
      TOKENMIRROR_HTTP_LISTEN: `:${String(port)}`,
      TOKENMIRROR_CLIPROXY_URL: `http://127.0.0.1:${String(cpa.port)}`,
    };
    child = spawn(process.execPath, [COMMAND, ...(sidecar?.args ?? [])], { env, cwd: '/', stdio: 'ignore' });
    const running = child;
    const ended = new Promise<number | null>((resolve) => running.once('exit', resolve));
    const probe = sidecar?.startupProbe?.httpGet.path ?? '';
    await until(
      'the startup probe passes',
      async () => (await fetch(`http://127.0.0.1:${String(port)}${probe}`).catch(() => undefined))?.status === 200,
    );
    return { ended, port };
  }

  async function claimsHeld(): Promise<number> {
    const { stdout } = await runCommand([
      'replicas',
      'list',
      '--json',
      '--workspace',
      workspace,
      '--state-dir',
      join(workspace, 'state'),
      '--store',
      store,
    ]);
    return (JSON.parse(stdout) as { claims: number }[]).reduce((sum, { claims }) => sum + claims, 0);
  }

  test('takes a login up, and after CLIProxyAPI has ended lets every claim go', async () => {
    const { ended, port } = await started();
    expect(await (await fetch(`http://127.0.0.1:${String(port)}/readyz`)).text()).toBe('{"status":"ready"}');
    writeFileSync(join(workspace, 'auths', NAME), credential({ type: 'claude' }));
    await until(
      'it is sealed',
      () => cpa.credential(NAME)?.['access_token'] !== undefined && cpa.credential(NAME)?.['refresh_token'] === undefined,
    );
    expect(await claimsHeld()).toBe(1);
    await cpa.end('SIGTERM');
    child?.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(await claimsHeld()).toBe(0);
  });

  test('that is stopped alone, while CLIProxyAPI lives on, keeps its claims', async () => {
    const { ended } = await started();
    writeFileSync(join(workspace, 'auths', NAME), credential({ type: 'claude' }));
    await until(
      'it is sealed',
      () => cpa.credential(NAME)?.['access_token'] !== undefined && cpa.credential(NAME)?.['refresh_token'] === undefined,
    );
    child?.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(await claimsHeld()).toBe(1);
  });
});

describe.each(['base/deployment.yaml', 'migrate/job.yaml'])('the pod of %s', (path) => {
  const pod = podOf(path);
  const containers = [...(pod.initContainers ?? []), ...pod.containers];

  test('has as few rights as it can do with, and bounds', () => {
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    });
    for (const { securityContext, resources } of containers) {
      expect(securityContext).toEqual({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
      expect(resources).toMatchObject({ requests: { memory: expect.any(String) }, limits: { memory: expect.any(String) } });
    }
  });

  test('mounts volumes that it has, and sets variables that are known', () => {
    const volumes = pod.volumes.map(({ name }) => name);
    for (const { volumeMounts, name, env = [] } of containers) {
      for (const mount of volumeMounts) expect(volumes).toContain(mount.name);
      if (name !== 'cliproxyapi') for (const variable of env) expect(variables).toContain(variable.name);
    }
  });
});

test('overlays set known options, and no secret', () => {
  const secret = OPTION_NAMES.filter((name) => optionSpec(name).secret === true).flatMap((name) => environmentOf(name));
  for (const overlay of readdirSync(join(PLACE, 'overlays'))) {
    const { configMapGenerator = [] } = read(`overlays/${overlay}/kustomization.yaml`) as Kustomization;
    const names = configMapGenerator.flatMap(({ literals }) => literals.map((literal) => literal.split('=')[0] ?? ''));
    for (const name of names) {
      expect(variables).toContain(name);
      expect(secret).not.toContain(name);
    }
  }
});

test('the deployment, its service and its budget select the same pods', () => {
  const { spec } = read('base/deployment.yaml') as Manifest;
  const service = read('base/service.yaml') as { readonly spec: { readonly selector: object } };
  const budget = read('base/pod-disruption-budget.yaml') as Manifest;
  expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
  expect([service.spec.selector, budget.spec.selector.matchLabels]).toEqual([spec.selector.matchLabels, spec.selector.matchLabels]);
});

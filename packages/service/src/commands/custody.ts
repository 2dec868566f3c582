import { setTimeout as delay } from 'node:timers/promises';
import {
  abandonedAt,
  Asks,
  ClaimBook,
  digestOf,
  dismissHolder,
  expiryOf,
  Hasher,
  isCredentialKey,
  makeAlone,
  readDocument,
  readDocumentKey,
  readMode,
  readReplicas,
  recordKey,
  refreshTokenOf,
  shareAgain,
  shownName,
  TokenmirrorError,
  type ClaimState,
  type ClusterMode,
  type DocumentKey,
  type Fingerprint,
  type FoundClaim,
  type KnownReplica,
  type Sharing,
  type TokenId,
} from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import { systemClock } from '../system-clock.js';
import type { OpenLook, ReplicaFactory } from '../replica-factory.js';
import { keyNamed } from './history.js';

export interface CustodyStatus {
  readonly mode: ClusterMode | undefined;
  /** This workspace's replica, where it has one. */
  readonly here: string | undefined;
  readonly credentials: readonly CredentialCustody[];
  /** Claims on tokens that no document holds any more. */
  readonly otherClaims: readonly ClaimReport[];
}

export interface ClaimReport {
  readonly state: ClaimState;
  readonly replica: string;
  /** ms since the epoch, by the store's clock. */
  readonly since: number;
  /** When others may take it over; `undefined` where nobody holds it. */
  readonly abandonedAt: number | undefined;
}

export interface CredentialCustody {
  readonly name: string;
  readonly provider: string;
  readonly sharing: Sharing;
  /** ms since the epoch. */
  readonly expires: number | undefined;
  readonly due: number | undefined;
  readonly claim: ClaimReport | undefined;
  readonly problem: string | undefined;
}

export interface ReplicaReport extends KnownReplica {
  readonly claims: number;
  readonly isHere: boolean;
  readonly isHandingOver: boolean;
}

interface StoredCredential {
  readonly key: DocumentKey;
  readonly grant: Fingerprint | undefined;
  readonly token: TokenId | undefined;
  readonly fields: Parameters<typeof expiryOf>[0];
}

/** Who may know the refresh tokens, as the store tells. Changes nothing. */
export async function custodyStatus(replicas: ReplicaFactory, settings: Settings): Promise<CustodyStatus> {
  return looking(replicas, settings, async ({ look, claims, credentials }) => {
    const mode = await readMode(look.store);
    const now = await look.store.now();
    const found = await claims.read(credentials.flatMap(({ token }) => token ?? []));
    const held = await claims.held();
    const known = new Set(credentials.map(({ token }) => token));
    return {
      mode,
      here: look.workspace.replicaId,
      credentials: credentials.map(({ key, token, fields }) => {
        const claim = token === undefined ? undefined : found.get(token);
        const sharing = replicas.policy.sharingOf(fields);
        const due = sharing === 'single-use' ? replicas.policy.dueAt(fields) : undefined;
        const isHeld = claim?.state === 'open' || claim?.state === 'sealed';
        return {
          name: shownName(key.slice('auths/'.length)),
          provider: typeof fields['type'] === 'string' ? fields['type'] : '',
          sharing,
          expires: expiryOf(fields),
          due,
          claim: claim && reportOf(claim),
          problem: problemOf({ sharing, token, claim, isOverdue: due !== undefined && due < now && !isHeld && mode?.mode === 'shared' }),
        };
      }),
      otherClaims: [...held].filter(([token]) => !known.has(token)).map(([, claim]) => reportOf(claim)),
    };
  });
}

/** Every replica of the cluster, with what it holds. */
export async function listReplicas(replicas: ReplicaFactory, settings: Settings): Promise<readonly ReplicaReport[]> {
  return looking(replicas, settings, async ({ look, claims }) => {
    const [mode, held] = [await readMode(look.store), [...(await claims.held()).values()]];
    return (await readReplicas(look.store)).map((replica) => ({
      ...replica,
      claims: held.filter((claim) => claim.replica === replica.id).length,
      isHere: replica.id === look.workspace.replicaId,
      isHandingOver: mode?.mode === 'shared' && mode.handover === replica.id,
    }));
  });
}

/** Forgets a replica that is gone for good, and frees what it held. @throws TokenmirrorError DOCUMENT_UNKNOWN, USAGE */
export async function dismissReplica(replicas: ReplicaFactory, settings: Settings, id: string): Promise<{ readonly freed: number }> {
  return looking(replicas, settings, async ({ look, claims, author }) => {
    if (id === look.workspace.replicaId)
      throw new TokenmirrorError(
        'USAGE',
        `${id} is the replica of this workspace`,
        'Run this at another replica, or use `tokenmirror eject`.',
      );
    const key = recordKey('replicas', id);
    const entry = (await look.store.read([key])).get(key);
    const mode = await readMode(look.store);
    const isHolder = mode !== undefined && (mode.handover === id || (mode.mode === 'alone' && mode.replica === id));
    const held = [...(await claims.held())].filter(([, claim]) => claim.replica === id);
    if (entry?.state !== 'live' && !isHolder && held.length === 0)
      throw new TokenmirrorError('DOCUMENT_UNKNOWN', `the store knows no replica ${id}`, 'See `tokenmirror replicas list`.');
    for (const [token, claim] of held) await claims.free(token, claim);
    if (isHolder) await dismissHolder(look.store, author, id);
    if (entry?.state === 'live') await look.store.write([{ key, expected: entry.revision, content: null, lineage: [] }], author);
    return { freed: held.length };
  });
}

/** Frees the claim on a credential, whoever holds it. @throws TokenmirrorError DOCUMENT_UNKNOWN */
export async function takeOver(
  replicas: ReplicaFactory,
  settings: Settings,
  name: string,
): Promise<{ readonly name: string; readonly from: string | undefined }> {
  return looking(replicas, settings, async ({ look, claims, credentials }) => {
    const { key, token } = credentialNamed(credentials, name);
    const claim = token === undefined ? undefined : (await claims.read([token])).get(token);
    const mode = await readMode(look.store);
    if (token !== undefined && claim !== undefined && (claim.state === 'open' || claim.state === 'sealed')) {
      await claims.free(token, claim);
      return { name: shownName(key), from: claim.replica };
    }
    const holder = mode?.handover ?? (mode?.mode === 'alone' ? mode.replica : undefined);
    if (holder !== undefined)
      throw new TokenmirrorError(
        'CUSTODY_REFUSED',
        `the replica ${holder} holds every token of this cluster together, this one among them`,
        `Wait until it hands over, or run \`tokenmirror replicas dismiss ${holder}\` if it is gone for good.`,
      );
    return { name: shownName(key), from: undefined };
  });
}

/** Asks every replica to refresh a credential now, and waits for a while. @throws TokenmirrorError DOCUMENT_UNKNOWN */
export async function refreshNow(
  replicas: ReplicaFactory,
  settings: Settings,
  name: string,
  patienceMs: number,
): Promise<{ readonly name: string; readonly result: 'refreshed' | 'asked' }> {
  return looking(replicas, settings, async ({ look, author, hasher, credentials }) => {
    const { key, grant } = credentialNamed(credentials, name);
    const mode = await readMode(look.store);
    if (mode?.mode !== 'shared')
      throw new TokenmirrorError(
        'CUSTODY_REFUSED',
        'nothing is shared here: CLIProxyAPI refreshes by itself',
        'Log in again in CLIProxyAPI if its access token died.',
      );
    if (grant === undefined)
      throw new TokenmirrorError('DOCUMENT_REFUSED', `${shownName(key)} has no access token`, 'Log in again in CLIProxyAPI.');
    await new Asks(look.store, author, hasher).ask(key, grant, 'person');
    const end = performance.now() + patienceMs;
    while (performance.now() < end) {
      const [now] = await readCredentials(look, settings, hasher, [key]);
      if (now !== undefined && now.grant !== grant) return { name: shownName(key), result: 'refreshed' };
      await delay(500);
    }
    return { name: shownName(key), result: 'asked' };
  });
}

/** Ends what `eject` did: every replica may refresh again, once the one that was alone has handed over. */
export async function share(replicas: ReplicaFactory, settings: Settings): Promise<ClusterMode> {
  return looking(replicas, settings, ({ look, author }) => shareAgain(look.store, author));
}

export interface Ejection {
  readonly to: string;
  /** Replicas that still hold claims: their tokens come when they have let go. */
  readonly waitsFor: readonly string[];
  readonly isDone: boolean;
}

/** Ends sharing: one replica may know every token, and its files are whole again. @throws TokenmirrorError WORKSPACE_MISSING */
export async function eject(
  replicas: ReplicaFactory,
  settings: Settings,
  { to, dryRun }: { readonly to: string | undefined; readonly dryRun: boolean },
): Promise<Ejection> {
  return looking(replicas, settings, async ({ look, claims, author }) => {
    const chosen = to ?? look.workspace.replicaId;
    if (chosen === undefined)
      throw new TokenmirrorError(
        'WORKSPACE_MISSING',
        'this workspace was never in sync, so it is no replica yet',
        'Run `tokenmirror sync` first, or name another replica with --to.',
      );
    const known = (await readReplicas(look.store)).find(({ id }) => id === chosen);
    if ((known === undefined && chosen !== look.workspace.replicaId) || known?.custody === 'peer')
      throw new TokenmirrorError(
        'DOCUMENT_UNKNOWN',
        `the store knows no replica ${chosen} that could hold tokens`,
        'See `tokenmirror replicas list`.',
      );
    const mode = await readMode(look.store);
    const holder = mode?.handover ?? (mode?.mode === 'alone' ? mode.replica : undefined);
    const holders = [...[...(await claims.held()).values()].map(({ replica }) => replica), ...(holder === undefined ? [] : [holder])];
    if (!dryRun) await makeAlone(look.store, author, chosen);
    return { to: chosen, waitsFor: [...new Set(holders)].filter((replica) => replica !== chosen), isDone: !dryRun };
  });
}

interface Ground {
  readonly look: OpenLook;
  readonly claims: ClaimBook;
  readonly hasher: Hasher;
  readonly author: string;
  readonly credentials: readonly StoredCredential[];
}

async function looking<T>(replicas: ReplicaFactory, settings: Settings, work: (ground: Ground) => Promise<T>): Promise<T> {
  const look = await replicas.look();
  try {
    const author = look.workspace.replicaId ?? 'custody';
    const hasher = new Hasher(look.cluster.key);
    const keys = (await look.store.list()).entries.flatMap(({ name, state }) => {
      const reading = readDocumentKey(name);
      return reading.ok && state === 'live' && isCredentialKey(reading.key) ? [reading.key] : [];
    });
    const credentials = await readCredentials(look, settings, hasher, keys);
    return await work({ look, hasher, author, credentials, claims: new ClaimBook(look.store, author, systemClock) });
  } finally {
    await look.close();
  }
}

async function readCredentials(
  look: OpenLook,
  settings: Settings,
  hasher: Hasher,
  keys: readonly DocumentKey[],
): Promise<StoredCredential[]> {
  const entries = keys.length === 0 ? new Map<DocumentKey, never>() : await look.store.read(keys);
  return keys.flatMap((key) => {
    const entry = entries.get(key);
    const reading = entry?.state === 'live' ? readDocument(key, entry.content, settings['max-document-size']) : undefined;
    if (reading?.state !== 'document' || reading.document.kind !== 'credential') return [];
    const { fields } = reading.document;
    const token = refreshTokenOf(fields);
    const grant = digestOf(reading.document, hasher, new Set(settings['host-sections'])).fingerprint;
    return [{ key, fields, grant, token: token === undefined ? undefined : hasher.tokenId(token) }];
  });
}

function credentialNamed(credentials: readonly StoredCredential[], name: string): StoredCredential {
  const key = keyNamed(name);
  const found = credentials.find((each) => each.key === key);
  if (found !== undefined) return found;
  throw new TokenmirrorError(
    'DOCUMENT_UNKNOWN',
    `the store has no credential ${shownName(key)}`,
    'See `tokenmirror custody status` for those it has.',
  );
}

function reportOf(claim: FoundClaim): ClaimReport {
  const isHeld = claim.state === 'open' || claim.state === 'sealed';
  return { state: claim.state, replica: claim.replica, since: claim.since, abandonedAt: isHeld ? abandonedAt(claim) : undefined };
}

function problemOf(found: {
  readonly sharing: Sharing;
  readonly token: TokenId | undefined;
  readonly claim: FoundClaim | undefined;
  readonly isOverdue: boolean;
}): string | undefined {
  const { sharing, token, claim, isOverdue } = found;
  if (sharing === 'unknown') return 'unknown provider: it stays with one replica; see --single-use-providers';
  if (sharing === 'single-use' && token === undefined) return 'no refresh token: log in again before it ends';
  if (claim?.state === 'spent') return 'its refresh token was used already: log in again before it ends';
  return isOverdue ? 'due, and nobody refreshed it yet' : undefined;
}

import type { Document } from './document.js';
import { accessTokenOf, grantOf, isGrantField } from './grant.js';
import type { Fingerprint, Hash, Hasher } from './hasher.js';
import { isHostSection, type HostSections } from './host-sections.js';

/** What is remembered and compared of a document: keyed hashes, never content. */
export interface Digest {
  /** Of everything that travels. Two documents are equal when these are. */
  readonly hash: Hash;
  /** One per setting of a credential, or per travelling section of a config (`''` is its preamble). */
  readonly fields: Readonly<Record<string, Hash>>;
  /** Of the whole grant of a credential that has one. */
  readonly grant?: Hash;
  /** Of the access token alone. */
  readonly fingerprint?: Fingerprint;
}

/** Documents do not change, so each is digested once. */
const known = new WeakMap<Hasher, WeakMap<Document, Digest>>();

/** A hasher serves one set of host sections. */
export function digestOf(document: Document, hasher: Hasher, hostSections: HostSections): Digest {
  let digests = known.get(hasher);
  if (digests === undefined) known.set(hasher, (digests = new WeakMap()));
  let digest = digests.get(document);
  if (digest === undefined) digests.set(document, (digest = computeDigest(document, hasher, hostSections)));
  return digest;
}

function computeDigest(document: Document, hasher: Hasher, hostSections: HostSections): Digest {
  return document.kind === 'credential' ? credentialDigest(document.fields, hasher) : configDigest(document, hasher, hostSections);
}

function credentialDigest(credential: Extract<Document, { kind: 'credential' }>['fields'], hasher: Hasher): Digest {
  const fields: Record<string, Hash> = Object.fromEntries(
    Object.entries(credential)
      .filter(([name]) => !isGrantField(name))
      .map(([name, value]) => [name, hasher.json('field', value)]),
  );
  const grant = grantOf(credential);
  const grantHash = Object.keys(grant).length > 0 ? hasher.json('grant', grant) : undefined;
  const accessToken = accessTokenOf(credential);
  return {
    hash: hasher.json('credential', { fields, grant: grantHash ?? null }),
    fields,
    ...(grantHash === undefined ? {} : { grant: grantHash }),
    ...(accessToken === undefined ? {} : { fingerprint: hasher.fingerprint(accessToken) }),
  };
}

function configDigest({ config }: Extract<Document, { kind: 'config' }>, hasher: Hasher, hostSections: HostSections): Digest {
  const travelling = [...config.sections].filter(([name]) => !isHostSection(name, hostSections));
  const fields: Record<string, Hash> = Object.fromEntries([
    ['', hasher.text('section', config.preamble)],
    ...travelling.map(([name, text]): [string, Hash] => [name, hasher.text('section', text.trimEnd())]),
  ]);
  const text = [config.preamble, ...travelling.map(([, section]) => section.trimEnd())].join('\n');
  return { hash: hasher.text('config', text), fields };
}

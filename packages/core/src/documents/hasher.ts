import { hash } from 'node:crypto';
import stableStringify from 'fast-json-stable-stringify';
import type { Json } from './strict-json.js';

declare const hashBrand: unique symbol;

/** A keyed hash of a document, a field or a grant: equal within a cluster exactly when the canonical content is. 22 characters. */
export type Hash = string & { readonly [hashBrand]: 'content' };

/** A keyed hash of an access token. It says which grant a credential holds without holding it. 22 characters. */
export type Fingerprint = string & { readonly [hashBrand]: 'fingerprint' };

/** A keyed hash of a refresh token, by which claims are named. 22 characters of base64url. */
export type TokenId = string & { readonly [hashBrand]: 'refresh-token' };

const HASH_CHARACTERS = 22;

/**
 * Hashes with the cluster's key, so that what lies in base records and lineages tells nothing about short secrets, and replicas of one
 * cluster can compare. SHA-512/256 is not open to length extension, so a key in front is enough.
 */
export class Hasher {
  readonly #key: string;

  constructor(clusterKey: string) {
    this.#key = clusterKey;
  }

  /** Hash of canonical JSON: independent of key order, white space and escapes. */
  json(domain: string, value: Json): Hash {
    return this.text(domain, stableStringify(value));
  }

  text(domain: string, text: string): Hash {
    return this.#digest(domain, text) as Hash;
  }

  fingerprint(accessToken: string): Fingerprint {
    return this.#digest('access-token', accessToken) as Fingerprint;
  }

  tokenId(refreshToken: string): TokenId {
    return this.#digest('refresh-token', refreshToken) as TokenId;
  }

  #digest(domain: string, text: string): string {
    return hash('sha512-256', `${this.#key}\0${domain}\0${text}`, 'base64url').slice(0, HASH_CHARACTERS);
  }
}

import { stateOf, type ApiKey } from './api-key.js';
import type { AuditEntry } from './audit-log.js';
import { describeQuota } from './quota.js';

/** A key as it is shown to other programs: masked, with instants as RFC 3339. */
export interface KeyView {
  readonly id: string;
  /** The mask. */
  readonly key: string;
  readonly owner_email: string;
  readonly status: string;
  readonly state: string;
  readonly expires_at: string | null;
  readonly note: string;
  readonly labels: readonly string[];
  readonly quota: string | null;
  /** In the unit of the quota, in its current window. */
  readonly used: number | null;
  readonly created_at: string;
  readonly created_by: string;
  readonly last_used_at: string | null;
  readonly replaced_by: string | null;
}

const INSTANT = { type: 'string', format: 'date-time', nullable: true } as const;
const TEXT = { type: 'string' } as const;

/** The same, as JSON Schema. */
export const KEY_VIEW = {
  type: 'object',
  properties: {
    id: TEXT,
    key: { type: 'string', description: 'masked' },
    owner_email: TEXT,
    status: { type: 'string', enum: ['active', 'disabled', 'deleted'] },
    state: { type: 'string', enum: ['valid', 'expired', 'exhausted', 'disabled', 'deleted'] },
    expires_at: INSTANT,
    note: TEXT,
    labels: { type: 'array', items: TEXT },
    quota: { type: 'string', nullable: true },
    used: { type: 'number', nullable: true },
    created_at: { type: 'string', format: 'date-time' },
    created_by: TEXT,
    last_used_at: INSTANT,
    replaced_by: { type: 'string', nullable: true },
  },
  required: ['id', 'key', 'owner_email', 'status', 'state', 'expires_at', 'created_at'],
} as const;

/** A line of the audit log, as JSON Schema. */
export const AUDIT_VIEW = {
  type: 'object',
  properties: {
    at: { type: 'string', format: 'date-time' },
    actor: TEXT,
    action: TEXT,
    key_id: { type: 'string', nullable: true },
    key: { type: 'string', nullable: true, description: 'masked' },
    outcome: { type: 'string', enum: ['ok', 'failed'] },
    detail: TEXT,
  },
  required: ['at', 'actor', 'action', 'outcome', 'detail'],
} as const;

export function auditView({ at, actor, action, keyId, mask, outcome, detail }: AuditEntry) {
  return { at: new Date(at).toISOString(), actor, action, key_id: keyId, key: mask, outcome, detail };
}

export function viewOf(key: ApiKey, now: number): KeyView {
  const { id, mask, owner, status, expiresAt, note, labels, quota, used, createdAt, createdBy, lastUsedAt, replacedBy } = key;
  return {
    id,
    key: mask,
    owner_email: owner,
    status,
    state: stateOf(key, now),
    expires_at: instant(expiresAt),
    note,
    labels,
    quota: quota === null ? null : describeQuota(quota),
    used: quota === null ? null : used[quota.unit],
    created_at: new Date(createdAt).toISOString(),
    created_by: createdBy,
    last_used_at: instant(lastUsedAt),
    replaced_by: replacedBy,
  };
}

function instant(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}

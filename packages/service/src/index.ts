export * from './composition.js';
export * from './commands/agent.js';
export * from './agent/agent-definition.js';
export * from './agent/agent-places.js';
export * from './commands/custody.js';
export * from './commands/diff.js';
export * from './commands/doctor.js';
export * from './commands/encryption.js';
export * from './commands/health.js';
export * from './commands/history.js';
export * from './commands/keys.js';
export * from './commands/migrate.js';
export * from './commands/restore.js';
export * from './commands/status.js';
export * from './commands/sync.js';
export * from './commands/verify.js';
export * from './daemon/daemon.js';
export * from './daemon/status-file.js';
export * from './neighbour/neighbour.js';
export type { KeysReport } from '@tokenmirror/key-expiry';
export { ALARM_KINDS, type Alarm, type AlarmKind } from './operations/alarms.js';
export * from './options/option-table.js';
export * from './options/reference.js';
export * from './options/settings.js';
export * from './pino-log.js';
export * from './redaction.js';
export * from './replica.js';
export * from './replica-factory.js';
export * from './stores/store-provider.js';
export * from './stores/store-registry.js';
export * from './system-clock.js';
export * from './version.js';
export {
  describePlan,
  describeQuota,
  FILTERS,
  parseQuota,
  parseTerm,
  stateOf,
  viewOf,
  type ApiKey,
  type Filter,
} from '@tokenmirror/key-expiry';
export * from './commands/usage.js';
export { problemOf as backupProblem } from './companions/back-up.js';
export type { UsageReport } from './companions/usage-companion.js';
export {
  GROUPS,
  isLossRecent,
  timelineView,
  usageView,
  type Group,
  type TimelinePoint,
  type UsageFormat,
  type UsageLine,
} from '@tokenmirror/usage';

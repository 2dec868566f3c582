/** How a value is written and what it becomes. */
export type OptionType =
  | 'path'
  | 'text'
  | 'url'
  | 'flag'
  | 'duration'
  | 'days'
  | 'size'
  | 'count'
  | 'names'
  | 'ids'
  | 'paths'
  | 'addressing'
  | 'custody'
  | 'switch'
  | 'listen'
  | 'notify-format'
  | 'log-level'
  | 'log-format';

export interface OptionSpec {
  readonly type: OptionType;
  readonly group: 'Workspace' | 'Store' | 'Roles' | 'Custody' | 'Replication' | 'Keys' | 'Usage' | 'Telegram' | 'Operation' | 'Output';
  /** As it would be written in `tokenmirror.yaml`; absent when there is none, or when it depends on others (then `defaultNote` says how). */
  readonly default?: string;
  readonly defaultNote?: string;
  /** Environment variables besides `TOKENMIRROR_<NAME>`, first match wins; those of CLIProxyAPI are also understood in lower case. */
  readonly environment?: readonly string[];
  readonly description: string;
  /** Never shown, and not accepted on the command line, where other users could see it. */
  readonly secret?: true;
}

/**
 * Every option, once. Flags, environment variables, `tokenmirror.yaml`, `--help` and the reference page are made from this table.
 */
export const OPTIONS = {
  workspace: {
    type: 'path',
    group: 'Workspace',
    defaultNote:
      '`$PGSTORE_LOCAL_PATH/pgstore`, `$OBJECTSTORE_LOCAL_PATH/objectstore` or `$GITSTORE_LOCAL_PATH/gitstore` where that is set',
    description: 'Root with auths/ and config/config.yaml below it',
  },
  'auth-dir': {
    type: 'path',
    group: 'Workspace',
    defaultNote: 'the auth-dir in the config, else auths/ in the workspace',
    description: 'Directory of the credentials, for example ~/.cli-proxy-api',
  },
  config: {
    type: 'path',
    group: 'Workspace',
    defaultNote: 'config/config.yaml in the workspace; none, and then it is not mirrored, where only an auth directory is given',
    description: 'Config file of CLIProxyAPI; its auth-dir is read where none is given',
  },
  'cliproxy-url': {
    type: 'url',
    group: 'Workspace',
    defaultNote: 'from host, port and tls in the config',
    environment: ['CLIPROXY_MGMT_BASE_URL'],
    description: 'Where CLIProxyAPI beside this workspace listens, to see whether it is well',
  },
  'management-key': {
    type: 'text',
    group: 'Workspace',
    environment: ['CLIPROXY_MGMT_KEY'],
    secret: true,
    description: 'Management key of CLIProxyAPI: with it dead access tokens are noticed and refreshed, and API keys are kept right',
  },
  'state-dir': {
    type: 'path',
    group: 'Workspace',
    defaultNote: '.tokenmirror in the workspace, or <auth-dir>.tokenmirror',
    description: 'Where this replica remembers what it has seen; never inside the auth directory',
  },
  store: {
    type: 'text',
    group: 'Store',
    defaultNote: 'the highest one that the environment configures, else file://$HOME/.tokenmirror/store',
    description:
      'The authority: file:///directory, postgres://…, s3://bucket/prefix, git+https://…, or the name of a configured store (postgres, s3, git, filesystem)',
  },
  'pg-dsn': {
    type: 'text',
    group: 'Store',
    environment: ['PGSTORE_DSN'],
    secret: true,
    description: 'How to reach Postgres: a postgres:// URL or key=value words',
  },
  'pg-schema': {
    type: 'text',
    group: 'Store',
    default: 'public',
    environment: ['PGSTORE_SCHEMA'],
    description: 'Postgres schema of the tables',
  },
  'pg-auth-table': {
    type: 'text',
    group: 'Store',
    default: 'auth_store',
    environment: ['PGSTORE_AUTH_TABLE'],
    description: 'Postgres table of the credentials',
  },
  'pg-config-table': {
    type: 'text',
    group: 'Store',
    default: 'config_store',
    environment: ['PGSTORE_CONFIG_TABLE'],
    description: 'Postgres table of the config',
  },
  'pg-local-path': {
    type: 'path',
    group: 'Store',
    environment: ['PGSTORE_LOCAL_PATH'],
    description: 'Directory below which CLIProxyAPI with a Postgres store keeps its workspace, pgstore/',
  },
  's3-endpoint': {
    type: 'text',
    group: 'Store',
    environment: ['OBJECTSTORE_ENDPOINT'],
    defaultNote: 'AWS',
    description: 'Address of the object storage, with or without https://',
  },
  's3-bucket': { type: 'text', group: 'Store', environment: ['OBJECTSTORE_BUCKET'], description: 'Bucket of the S3 store; it must exist' },
  's3-prefix': {
    type: 'text',
    group: 'Store',
    environment: ['OBJECTSTORE_PREFIX'],
    defaultNote: 'none, as CLIProxyAPI does it',
    description: 'Folder in the bucket below which everything is kept',
  },
  's3-region': {
    type: 'text',
    group: 'Store',
    environment: ['OBJECTSTORE_REGION'],
    defaultNote: 'from the endpoint',
    description: 'Region of the bucket',
  },
  's3-access-key': {
    type: 'text',
    group: 'Store',
    environment: ['OBJECTSTORE_ACCESS_KEY'],
    defaultNote: 'the credentials that the AWS SDK finds: variables, profile, role',
    secret: true,
    description: 'Access key of the object storage',
  },
  's3-secret-key': {
    type: 'text',
    group: 'Store',
    environment: ['OBJECTSTORE_SECRET_KEY'],
    secret: true,
    description: 'Secret key of the object storage',
  },
  's3-addressing': {
    type: 'addressing',
    group: 'Store',
    default: 'auto',
    description: 'Whether the bucket stands in the path or in the host name; auto: what the provider is known to need',
  },
  's3-listing-interval': {
    type: 'duration',
    group: 'Store',
    default: '5m',
    description: 'How often the objects are listed, to see what others than Tokenmirror wrote',
  },
  's3-local-path': {
    type: 'path',
    group: 'Store',
    environment: ['OBJECTSTORE_LOCAL_PATH'],
    description: 'Directory below which CLIProxyAPI with an object store keeps its workspace, objectstore/',
  },
  'git-url': {
    type: 'text',
    group: 'Store',
    environment: ['GITSTORE_GIT_URL'],
    description: 'Git repository: https://host/owner/repository.git, or the path of one on this machine',
  },
  'git-username': {
    type: 'text',
    group: 'Store',
    environment: ['GITSTORE_GIT_USERNAME'],
    description: 'User name at the git server; most take any with a token',
  },
  'git-token': {
    type: 'text',
    group: 'Store',
    environment: ['GITSTORE_GIT_TOKEN'],
    secret: true,
    description: 'Token or password at the git server, with the right to read and write the repository',
  },
  'git-branch': {
    type: 'text',
    group: 'Store',
    environment: ['GITSTORE_GIT_BRANCH'],
    defaultNote: "the repository's default branch",
    description: 'Branch that holds the documents; made when it is new',
  },
  'git-author': {
    type: 'text',
    group: 'Store',
    default: 'Tokenmirror <tokenmirror@localhost>',
    description: 'Author of the commits',
  },
  'git-clones': {
    type: 'path',
    group: 'Store',
    default: '~/.tokenmirror/git',
    description: 'Directory for clones of remote repositories, which hold the credentials too',
  },
  'git-local-path': {
    type: 'path',
    group: 'Store',
    environment: ['GITSTORE_LOCAL_PATH'],
    description: 'Directory below which CLIProxyAPI with a git store keeps its workspace, gitstore/',
  },
  'filesystem-path': { type: 'path', group: 'Store', description: 'Directory of the filesystem store' },
  'store-timeout': {
    type: 'duration',
    group: 'Store',
    default: '10s',
    description: 'How long a store may take to answer before it counts as out of reach',
  },
  mirrors: {
    type: 'names',
    group: 'Roles',
    defaultNote: 'none; the S3 backup is one where it is set',
    description: 'Further stores that are kept as the authority is, in the order in which they are asked for what it lost: names or URLs',
  },
  'mirror-interval': {
    type: 'duration',
    group: 'Roles',
    default: '5m',
    description: 'How often a mirror is compared with the authority; changes of this replica are copied at once',
  },
  's3-backup-prefix': {
    type: 'text',
    group: 'Roles',
    environment: ['OBJECTSTORE_BACKUP_PREFIX'],
    description: 'Folder of a backup in object storage, for example backup; this alone sets one up in the bucket of the S3 store',
  },
  's3-backup-bucket': {
    type: 'text',
    group: 'Roles',
    environment: ['OBJECTSTORE_BACKUP_BUCKET'],
    defaultNote: 'the bucket of the S3 store',
    description: 'Bucket of the backup',
  },
  's3-backup-endpoint': {
    type: 'text',
    group: 'Roles',
    environment: ['OBJECTSTORE_BACKUP_ENDPOINT'],
    defaultNote: 'that of the S3 store',
    description: 'Address of the object storage of the backup',
  },
  's3-backup-region': {
    type: 'text',
    group: 'Roles',
    environment: ['OBJECTSTORE_BACKUP_REGION'],
    defaultNote: 'that of the S3 store, or from the endpoint',
    description: 'Region of the bucket of the backup',
  },
  's3-backup-access-key': {
    type: 'text',
    group: 'Roles',
    environment: ['OBJECTSTORE_BACKUP_ACCESS_KEY'],
    defaultNote: 'that of the S3 store',
    secret: true,
    description: 'Access key of the backup',
  },
  's3-backup-secret-key': {
    type: 'text',
    group: 'Roles',
    environment: ['OBJECTSTORE_BACKUP_SECRET_KEY'],
    defaultNote: 'that of the S3 store',
    secret: true,
    description: 'Secret key of the backup',
  },
  peers: {
    type: 'paths',
    group: 'Roles',
    defaultNote: 'none',
    description:
      'Further directories of credentials that are kept in sync both ways, for example ~/.ccs/cliproxy/auth; they get no refresh tokens',
  },
  'peer-filter': {
    type: 'names',
    group: 'Roles',
    default: '*',
    description: 'File names that belong to the peers, with * for anything, for example claude-*,codex-*',
  },
  custody: {
    type: 'custody',
    group: 'Custody',
    default: 'auto',
    description:
      'Who may hold refresh tokens. auto: a replica that is alone holds them all, several share them by claims; on: shared from the start; off: every workspace has every token, and two proxies log each other out',
  },
  refresher: {
    type: 'switch',
    group: 'Custody',
    default: 'yes',
    description: 'Whether the proxy beside this replica may refresh shared credentials: yes or no',
  },
  'single-use-providers': {
    type: 'names',
    group: 'Custody',
    default: 'claude,codex,kimi,xai',
    description: 'Credential types whose refresh tokens work once, and which are served without one',
  },
  'reusable-providers': {
    type: 'names',
    group: 'Custody',
    default: 'antigravity,gemini,vertex',
    description: 'Credential types whose refresh tokens work any number of times, so that every replica has them',
  },
  'filesystem-shared': {
    type: 'flag',
    group: 'Custody',
    description: 'The directory of the filesystem store is one that all replicas really share (a network disk, not a synced folder)',
  },
  'outlives-cliproxy': {
    type: 'flag',
    group: 'Custody',
    description: 'This daemon is always stopped after CLIProxyAPI has exited (a native sidecar), so that its claims can be let go at once',
  },
  'poll-interval': {
    type: 'duration',
    group: 'Replication',
    default: '10s',
    description: 'How often the store is asked for changes; notifications only make it sooner',
  },
  'sweep-interval': {
    type: 'duration',
    group: 'Replication',
    default: '30s',
    description: 'How often the files are compared with what was last seen; file events only make it sooner',
  },
  'echo-window': {
    type: 'duration',
    group: 'Replication',
    default: '5s',
    description: 'For how long a replaced content that comes back is taken for CLIProxyAPI saving its older copy, and not for an edit',
  },
  'max-document-size': { type: 'size', group: 'Replication', default: '1MiB', description: 'Larger files and rows are refused' },
  'history-length': { type: 'count', group: 'Replication', default: '20', description: 'Versions kept of each document' },
  'host-sections': {
    type: 'names',
    group: 'Replication',
    default: 'host,port,tls,auth-dir',
    description: 'Top-level keys of config.yaml that belong to the host and do not travel',
  },
  force: { type: 'flag', group: 'Replication', description: 'Let a mass deletion through that was frozen' },
  adopt: { type: 'flag', group: 'Replication', description: 'Join the cluster of this store although the workspace belonged to another' },
  json: { type: 'flag', group: 'Output', description: 'Print JSON instead of tables' },
  'encryption-keys': {
    type: 'text',
    group: 'Store',
    secret: true,
    description:
      'Keys with which documents are encrypted in every store, name:base64, separated by commas; the first one encrypts, all decrypt',
  },
  'encryption-key-file': {
    type: 'path',
    group: 'Store',
    description: 'A file with such keys, one a line, mode 0600',
  },
  keys: {
    type: 'switch',
    group: 'Keys',
    default: 'yes',
    description:
      'Keep the API keys of CLIProxyAPI as the registry has them. Nothing happens without a management key, or before the first key',
  },
  'key-sync-interval': {
    type: 'duration',
    group: 'Keys',
    default: '30s',
    environment: ['APIM_KEY_SYNC_INTERVAL'],
    description: 'How often the keys of CLIProxyAPI are looked at without a reason; changes and ends of terms are not waited for',
  },
  'key-targets': {
    type: 'names',
    group: 'Keys',
    defaultNote: 'only the one beside this workspace',
    description: 'Addresses of further CLIProxyAPIs that get the same keys, separated by commas',
  },
  'key-target-keys': {
    type: 'text',
    group: 'Keys',
    secret: true,
    defaultNote: 'management-key for all of them',
    description: 'Their management keys, in the same order, separated by commas',
  },
  'key-reminder': {
    type: 'days',
    group: 'Keys',
    default: '3d',
    description: 'How long before its end a key is told of',
  },
  database: {
    type: 'path',
    group: 'Keys',
    defaultNote: 'Postgres where that is the authority, else companions.db in the state directory',
    environment: ['APIM_DB_PATH'],
    description: 'File of the embedded database with the registry of keys',
  },
  'database-dir': {
    type: 'path',
    group: 'Keys',
    environment: ['APIM_DATA_DIR'],
    description: 'Directory of that file, where only a directory is given; it is called apim.db then',
  },
  usage: {
    type: 'switch',
    group: 'Usage',
    default: 'no',
    description: 'Collect what was used. It needs a management key, and nobody else may read the usage queue of CLIProxyAPI then',
  },
  'usage-enable': {
    type: 'switch',
    group: 'Usage',
    default: 'no',
    description: 'Turn usage-statistics-enabled on in CLIProxyAPI where it is off: without it nothing is recorded',
  },
  'usage-interval': {
    type: 'duration',
    group: 'Usage',
    default: '2m',
    environment: ['APIM_USAGE_SYNC_INTERVAL'],
    description: 'How often the statistics of CLIProxyAPI up to 6.9 are read; queues are read every five seconds',
  },
  'usage-recovery-interval': {
    type: 'duration',
    group: 'Usage',
    default: '1m',
    environment: ['APIM_RECOVERY_CHECK_INTERVAL'],
    description: 'How often it is looked whether CLIProxyAPI up to 6.9 lost its statistics, which it then gets back',
  },
  'usage-keep-events': { type: 'days', group: 'Usage', default: '35d', description: 'How long single requests are kept' },
  'usage-keep-hours': {
    type: 'days',
    group: 'Usage',
    default: '366d',
    description: 'How long sums by hour are kept; those by day are kept for ever',
  },
  'usage-backup': {
    type: 'names',
    group: 'Usage',
    description: 'Stores into which the sums by day are written: names or URLs, separated by commas',
  },
  'usage-backup-interval': { type: 'days', group: 'Usage', default: '1d', description: 'How often' },
  'usage-prices': { type: 'path', group: 'Usage', description: 'Price table for estimates of cost, see docs/usage.md' },
  'telegram-token': {
    type: 'text',
    group: 'Telegram',
    environment: ['TELEGRAM_BOT_TOKEN'],
    secret: true,
    description: 'Token of the Telegram bot',
  },
  'telegram-users': {
    type: 'ids',
    group: 'Telegram',
    environment: ['TELEGRAM_ALLOWED_USER_IDS'],
    defaultNote: 'nobody',
    description: 'Ids of the users that the bot obeys, separated by commas',
  },
  'telegram-chats': {
    type: 'ids',
    group: 'Telegram',
    environment: ['TELEGRAM_ALLOWED_CHAT_IDS'],
    defaultNote: 'any chat of an allowed user',
    description: 'Ids of the chats in which it answers; without telegram-users everybody in them is obeyed',
  },
  'telegram-api': {
    type: 'url',
    group: 'Telegram',
    default: 'https://api.telegram.org',
    description: 'Another server of the Telegram Bot API',
  },
  'http-listen': {
    type: 'listen',
    group: 'Operation',
    default: '127.0.0.1:8318',
    environment: ['APIM_HTTP_ADDR'],
    description: 'Where health, metrics and the HTTP API are served: address:port, or off. Beyond this machine only with http-token',
  },
  'http-token': {
    type: 'text',
    group: 'Operation',
    environment: ['APIM_HTTP_AUTH_TOKEN'],
    secret: true,
    description: 'Bearer token for everything but /livez, /readyz and /healthz',
  },
  'notify-url': {
    type: 'url',
    group: 'Operation',
    secret: true,
    description: 'Webhook that is told when something goes wrong, and when it is well again',
  },
  'notify-format': {
    type: 'notify-format',
    group: 'Operation',
    default: 'auto',
    description: 'What the webhook understands: json, or slack; auto goes by its address',
  },
  'alarm-outage-after': {
    type: 'duration',
    group: 'Operation',
    default: '2m',
    description: 'How long the authority may be out of reach before it is an alarm',
  },
  'alarm-mirror-after': {
    type: 'duration',
    group: 'Operation',
    default: '10m',
    description: 'How long a mirror may be behind before it is an alarm',
  },
  'start-degraded-after': {
    type: 'duration',
    group: 'Operation',
    default: '30s',
    description:
      'How long a start waits for the authority before it fills an empty workspace from a mirror and counts as ready, without refresh tokens',
  },
  'log-level': {
    type: 'log-level',
    group: 'Output',
    default: 'info',
    environment: ['APIM_LOG_LEVEL'],
    description: 'debug, info, warn or error',
  },
  'log-format': { type: 'log-format', group: 'Output', default: 'auto', description: 'pretty, json, or auto: pretty on a terminal' },
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof OPTIONS;

export const OPTION_NAMES = Object.keys(OPTIONS) as OptionName[];

export function optionSpec(name: OptionName): OptionSpec {
  return OPTIONS[name];
}

/** The environment variables of an option, in the order in which they are looked at. */
export function environmentOf(name: OptionName): readonly string[] {
  return [`TOKENMIRROR_${name.toUpperCase().replaceAll('-', '_')}`, ...(optionSpec(name).environment ?? [])];
}

import { describeReplication } from './replication.js';

describeReplication('s3', { burst: 100, kills: 6 });

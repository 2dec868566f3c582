import { describeCustody } from './custody.js';

describeCustody('s3', { credentials: 6, rotations: 40 });

import { playIncidents } from './play-incidents.js';

playIncidents('s3', 'git');

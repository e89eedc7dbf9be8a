-- nodes: which servers are in the cluster, and where do they serve HTTP?
-- Parameters: cluster String (a name of remote_servers in the servers' config)
-- Result:     shard_num, host_name, http_port (0 where the server did not say)
-- Read by:    otel_cost/store/cluster.py
SELECT
    node.shard_num AS shard_num,
    node.host_name AS host_name,
    served.http_port AS http_port
FROM system.clusters AS node
LEFT JOIN
(
    SELECT
        shardNum() AS shard_num,
        getServerPort('tcp_port') AS tcp_port,
        getServerPort('http_port') AS http_port
    FROM clusterAllReplicas({cluster:String}, system.one)
) AS served
    ON served.shard_num = node.shard_num AND served.tcp_port = node.port
WHERE node.cluster = {cluster:String}
ORDER BY
    node.shard_num,
    node.replica_num;

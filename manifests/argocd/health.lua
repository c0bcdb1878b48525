-- Health of an MCPProxy for Argo CD. Conditions follow kstatus: Reconciling and Stalled are present
-- only while they are true, and observedGeneration is the generation that the status describes.
local function health(status, message)
  return { status = status, message = message }
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

if obj.spec ~= nil and obj.spec.suspend == true then
  local suspended = conditions["Suspended"]
  if suspended ~= nil and suspended.status == "True" then
    return health("Suspended", suspended.message)
  end
  return health("Suspended", "spec.suspend is true")
end

local ready, available = conditions["Ready"], conditions["Available"]
if available == nil then
  return health("Progressing", "Waiting for the operator to write the status")
end
if obj.status.observedGeneration == nil or obj.metadata.generation == nil
    or obj.status.observedGeneration < obj.metadata.generation then
  return health("Progressing", "Waiting for the operator to observe the latest spec")
end

local stalled = conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", stalled.message)
end
local reconciling = conditions["Reconciling"]
if reconciling ~= nil and reconciling.status == "True" then
  return health("Progressing", reconciling.message)
end
-- A proxy that is scaled to zero in Git is healthy; it is Ready with the reason ScaledToZero.
if available.reason == "ScaledToZero" then
  return health("Healthy", available.message)
end
if ready == nil then
  return health("Progressing", available.message)
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
if ready.status == "False" then
  return health("Degraded", ready.message)
end
return health("Progressing", ready.message)

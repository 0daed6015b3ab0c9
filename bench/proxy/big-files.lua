-- For wrk(1): each request is for the next of the big files.
local BIG_FILES = 64
local requests = 0

function request()
  requests = requests + 1
  return wrk.format("GET", "/big" .. requests % BIG_FILES)
end
